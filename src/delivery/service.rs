use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{
    HeaderMap, HeaderName, Request, Response, Version,
    header::{CONNECTION, EXPECT},
};
use http_body::Body;
use tower_service::Service;

use super::{
    DeliveredBody, ResponseFuture, TrackedBody,
    exchange::{Exchange, Remainder},
    future::Watch,
    plan::Plan,
    shared::Shared,
};
use crate::connection::Connection;

/// The service that [`DeliveryLayer`](super::DeliveryLayer) makes, and
/// [`Linger::join`](crate::Linger::join).
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{Empty, Full};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_bodyguard::{DeliveryLayer, delivery::TrackedBody};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let unread = service_fn(|_: Request<TrackedBody<Full<Bytes>>>| async {
///     Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new()))
/// });
/// let service = DeliveryLayer::new().layer(unread);
/// // More than is worth reading to keep the connection.
/// let request = Request::new(Full::from(vec![0; 2_000_000]));
/// let response = service.oneshot(request).await.unwrap();
/// assert_eq!(response.headers()["connection"], "close");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Delivery<S> {
    inner: S,
    shared: Arc<Shared>,
    connection: Option<Arc<Connection>>,
}

impl<S> Delivery<S> {
    pub(crate) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self {
            inner,
            shared,
            connection: None,
        }
    }

    /// For one connection, whose socket knows it too.
    pub(crate) fn joined(mut self, connection: Option<Arc<Connection>>) -> Self {
        self.connection = connection;
        self
    }
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for Delivery<S>
where
    S: Service<Request<TrackedBody<ReqB>>, Response = Response<ResB>>,
    ReqB: Body + Unpin + Send + 'static,
{
    type Response = Response<DeliveredBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ReqB, ResB>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let http1 = request.version() <= Version::HTTP_11;
        let bodiless = request.body().is_end_stream();
        // A stream of HTTP/2 is not counted: its connection always lingers.
        let counted = self.connection.as_ref().filter(|_| http1);
        if bodiless {
            if let Some(connection) = counted {
                connection.finish(connection.begin());
            }
            let request = request.map(TrackedBody::untracked);
            return ResponseFuture::new(self.inner.call(request), None);
        }

        let (parts, body) = request.into_parts();
        let expects_continue = has_token(&parts.headers, &EXPECT, "100-continue");
        let numbered = counted.map(|connection| (Arc::clone(connection), connection.begin()));
        let joined = self.connection.as_ref();
        let cork = joined
            .filter(|_| !http1 && body.size_hint().exact().is_some())
            .cloned();
        let rest = Remainder::new(body, expects_continue, numbered);
        let exchange = Exchange::new();
        let watch = Watch {
            exchange: exchange.clone(),
            plan: Plan {
                shared: Arc::clone(&self.shared),
                cork,
                multiplexed: !http1,
                persistent: parts.version == Version::HTTP_11
                    && !has_token(&parts.headers, &CONNECTION, "close"),
            },
        };
        let request = Request::from_parts(parts, TrackedBody::tracked(rest, exchange));
        ResponseFuture::new(self.inner.call(request), Some(watch))
    }
}

/// Whether a header that is a list (RFC 9110 §5.6.1) has the token.
#[inline]
pub(super) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    // Most have no such header, and this is the cheaper question.
    headers.contains_key(name) && list_has_token(headers, name, token)
}

fn list_has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|member| member.trim().eq_ignore_ascii_case(token))
}
