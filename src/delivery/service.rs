use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, Version, header::EXPECT};
use http_body::Body;
use tower_service::Service;

use super::{
    DeliveredBody, ResponseFuture, TrackedBody,
    config::RequestKey,
    disposition::Disposition,
    future::UnreadWatch,
    handle::{DeliveryHandle, Multiplexed},
    handoff::BodyHandoff,
    headers::{closes, has_token},
    unread_body::UnreadBody,
    window_hold::WindowHold,
};
use crate::shared::connection::{Connection, LeftBody};

/// The service that [`DeliveryLayer`](super::DeliveryLayer) and
/// [`Linger::wrap`](crate::Linger::wrap) create.
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
/// let service = DeliveryLayer::default().layer(unread);
/// // This body exceeds the drain limit of 1 MiB.
/// let request = Request::new(Full::from(vec![0; 2_000_000]));
/// let response = service.oneshot(request).await.unwrap();
/// assert_eq!(response.headers()["connection"], "close");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Delivery<S> {
    inner: S,
    handle: Arc<DeliveryHandle>,
    /// Used if the connection is not known.
    peer_key: RequestKey,
    connection: Option<Arc<Connection>>,
}

impl<S> Delivery<S> {
    pub(crate) fn from_handle(inner: S, handle: Arc<DeliveryHandle>, peer_key: RequestKey) -> Self {
        Self {
            inner,
            handle,
            peer_key,
            connection: None,
        }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service, without delivery.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// Combines the service with the socket of its connection, which shares `connection`.
    pub(crate) fn combined(mut self, connection: Option<Arc<Connection>>) -> Self {
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
        if !request.body().is_end_stream() {
            return self.follow(request);
        }
        self.note_bodiless(&request);
        self.pass(|inner| inner.call(request.map(TrackedBody::untracked)))
    }
}

impl<S> Delivery<S> {
    /// Records a request without a body on its connection. An HTTP/2 stream is not counted, because
    /// an HTTP/2 connection always lingers.
    #[inline]
    pub(crate) fn note_bodiless<B>(&self, request: &Request<B>) {
        let http1 = request.version() <= Version::HTTP_11;
        if let Some(connection) = self.connection.as_ref().filter(|_| http1) {
            connection.begin_bodiless();
            if closes(request.version(), request.headers()) {
                connection.client_closes();
            }
        }
    }

    /// Calls the service with a request without a body, which needs no tracking.
    #[inline]
    fn pass<F, ReqB, ResB>(
        &mut self,
        call: impl FnOnce(&mut S) -> F,
    ) -> ResponseFuture<F, ReqB, ResB> {
        ResponseFuture::new(call(&mut self.inner), None)
    }

    /// Calls the service with a request, and tracks its body.
    #[inline(never)]
    fn follow<ReqB, ResB>(
        &mut self,
        request: Request<ReqB>,
    ) -> ResponseFuture<S::Future, ReqB, ResB>
    where
        S: Service<Request<TrackedBody<ReqB>>, Response = Response<ResB>>,
        ReqB: Body + Unpin + Send + 'static,
    {
        let (parts, body) = request.into_parts();
        let http1 = parts.version <= Version::HTTP_11;
        let expects_continue = has_token(&parts.headers, &EXPECT, "100-continue");
        let connection = self.connection.as_ref();
        let closes = closes(parts.version, &parts.headers);
        let numbered = connection.filter(|_| http1).map(|connection| {
            if closes {
                connection.client_closes();
            }
            (Arc::clone(connection), connection.begin())
        });
        let gate = connection
            .filter(|_| !http1 && body.size_hint().exact().is_some())
            .cloned();
        let unread = connection.filter(|_| !http1).cloned().map(WindowHold::new);
        let peer = match connection {
            Some(connection) => connection.peer(),
            None => self.peer_key.of(&parts),
        };
        let left =
            (parts.version == Version::HTTP_11).then(|| LeftBody::of(body.size_hint().exact()));
        let rest = UnreadBody::new(body, expects_continue, numbered);
        let handoff = BodyHandoff::new();
        let watch = UnreadWatch {
            handoff: handoff.clone(),
            disposition: Disposition {
                handle: Arc::clone(&self.handle),
                gate,
                peer,
                multiplexed: Multiplexed::of(parts.version),
                persistent: http1 && !closes,
                left,
            },
        };
        let request = Request::from_parts(parts, TrackedBody::tracked(rest, handoff, unread));
        ResponseFuture::new(self.inner.call(request), Some(watch))
    }
}
