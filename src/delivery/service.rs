use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, Version, header::EXPECT};
use http_body::Body;
use tower_service::Service;

use super::{
    DeliveredBody, ResponseFuture, TrackedBody,
    config::PeerKey,
    disposition::Disposition,
    future::Watch,
    handoff::BodyHandoff,
    headers::{closes, has_token},
    state::State,
    unread_body::UnreadBody,
    window_hold::WindowHold,
};
use crate::shared::connection::Connection;

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
/// let service = DeliveryLayer::default().layer(unread);
/// // More than is worth reading to keep the connection.
/// let request = Request::new(Full::from(vec![0; 2_000_000]));
/// let response = service.oneshot(request).await.unwrap();
/// assert_eq!(response.headers()["connection"], "close");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Delivery<S> {
    inner: S,
    shared: Arc<State>,
    /// Used where there is no connection.
    peer_key: PeerKey,
    connection: Option<Arc<Connection>>,
}

impl<S> Delivery<S> {
    pub(crate) fn new(inner: S, shared: Arc<State>, peer_key: PeerKey) -> Self {
        Self {
            inner,
            shared,
            peer_key,
            connection: None,
        }
    }

    /// Returns the service itself.
    #[cfg(feature = "axum")]
    pub(crate) fn inner(&self) -> &S {
        &self.inner
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
        if !request.body().is_end_stream() {
            return self.follow(request);
        }
        self.note_bodiless(&request);
        self.pass(|inner| inner.call(request.map(TrackedBody::untracked)))
    }
}

impl<S> Delivery<S> {
    /// Tells the socket of a request without a body. A stream of HTTP/2 is not counted: its
    /// connection always lingers.
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

    /// Without a body, nothing can come back.
    #[inline]
    fn pass<F, ReqB, ResB>(
        &mut self,
        call: impl FnOnce(&mut S) -> F,
    ) -> ResponseFuture<F, ReqB, ResB> {
        ResponseFuture::new(call(&mut self.inner), None)
    }

    /// With a body, which may come back.
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
        let joined = self.connection.as_ref();
        let closes = closes(parts.version, &parts.headers);
        let numbered = joined.filter(|_| http1).map(|connection| {
            if closes {
                connection.client_closes();
            }
            (Arc::clone(connection), connection.begin())
        });
        let gate = joined
            .filter(|_| !http1 && body.size_hint().exact().is_some())
            .cloned();
        let unread = joined.filter(|_| !http1).cloned().map(WindowHold::new);
        let peer = match joined {
            Some(connection) => connection.peer(),
            None => self.peer_key.of(&parts),
        };
        let rest = UnreadBody::new(body, expects_continue, numbered);
        let handoff = BodyHandoff::new();
        let watch = Watch {
            handoff: handoff.clone(),
            disposition: Disposition {
                shared: Arc::clone(&self.shared),
                gate,
                peer,
                multiplexed: !http1,
                persistent: http1 && !closes,
            },
        };
        let request = Request::from_parts(parts, TrackedBody::tracked(rest, handoff, unread));
        ResponseFuture::new(self.inner.call(request), Some(watch))
    }
}
