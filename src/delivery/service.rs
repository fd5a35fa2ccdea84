use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, Version, header::EXPECT};
use http_body::Body;
use tower_service::Service;

use super::{
    DeliveredBody, ResponseFuture, TrackedBody,
    context::DeliveryContext,
    disposition::Disposition,
    future::UnreadWatch,
    handle::Multiplexed,
    handoff::BodyHandoff,
    headers::{closes, has_token},
    unread_body::UnreadBody,
    window_hold::WindowHold,
};
use crate::shared::connection::LeftBody;

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
    context: Arc<DeliveryContext>,
}

impl<S> Delivery<S> {
    pub(super) fn from_context(inner: S, context: Arc<DeliveryContext>) -> Self {
        Self { inner, context }
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
            let context = Arc::clone(&self.context);
            return track(&mut self.inner, context, request, |body| body);
        }
        // It needs no tracking.
        self.note_bodiless(&request);
        let called = self.inner.call(request.map(TrackedBody::untracked));
        ResponseFuture::new(called, None)
    }
}

impl<S> Delivery<S> {
    /// Records a request without a body on its connection. An HTTP/2 stream is not counted, because
    /// an HTTP/2 connection always lingers.
    #[inline]
    pub(crate) fn note_bodiless<B>(&self, request: &Request<B>) {
        let http1 = request.version() <= Version::HTTP_11;
        if let Some(connection) = self.context.connection.as_ref().filter(|_| http1) {
            connection.begin_bodiless();
            if closes(request.version(), request.headers()) {
                connection.client_closes();
            }
        }
    }

    /// Wraps another service, with the same state of the connection.
    #[cfg(feature = "axum")]
    pub(crate) fn around<T>(&self, inner: T) -> Delivery<T> {
        Delivery::from_context(inner, Arc::clone(&self.context))
    }

    /// Calls the service once with a request, and tracks its body. `convert` makes the body that
    /// the service takes.
    #[cfg(feature = "axum")]
    #[inline]
    pub(crate) fn follow<ReqB, B, ResB>(
        mut self,
        request: Request<ReqB>,
        convert: impl FnOnce(TrackedBody<ReqB>) -> B,
    ) -> ResponseFuture<S::Future, ReqB, ResB>
    where
        S: Service<Request<B>, Response = Response<ResB>>,
        ReqB: Body + Unpin + Send + 'static,
    {
        track(&mut self.inner, self.context, request, convert)
    }
}

/// Calls the service with a request whose body is tracked.
#[inline]
fn track<S, ReqB, B, ResB>(
    service: &mut S,
    context: Arc<DeliveryContext>,
    request: Request<ReqB>,
    convert: impl FnOnce(TrackedBody<ReqB>) -> B,
) -> ResponseFuture<S::Future, ReqB, ResB>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    ReqB: Body + Unpin + Send + 'static,
{
    let Some(key_of) = context.key_of_head() else {
        return track_keyed(service, context, request, None, convert);
    };
    let (head, body) = request.into_parts();
    let key = key_of(&head);
    let request = Request::from_parts(head, body);
    track_keyed(service, context, request, key, convert)
}

/// Tracks the body of a request whose client's key is known, or is not needed.
#[inline(never)]
fn track_keyed<S, ReqB, B, ResB>(
    service: &mut S,
    context: Arc<DeliveryContext>,
    request: Request<ReqB>,
    key: Option<u64>,
    convert: impl FnOnce(TrackedBody<ReqB>) -> B,
) -> ResponseFuture<S::Future, ReqB, ResB>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    ReqB: Body + Unpin + Send + 'static,
{
    let (version, headers) = (request.version(), request.headers());
    let http1 = version <= Version::HTTP_11;
    let length = request.body().size_hint().exact();
    let expects_continue = has_token(headers, &EXPECT, "100-continue");
    let connection = context.connection.as_ref();
    let closes = closes(version, headers);
    let numbered = connection.filter(|_| http1).map(|connection| {
        if closes {
            connection.client_closes();
        }
        (Arc::clone(connection), connection.begin())
    });
    let unread = connection.filter(|_| !http1).cloned().map(WindowHold::new);
    let handoff = BodyHandoff::new();
    let watch = UnreadWatch {
        handoff: handoff.clone(),
        disposition: Disposition {
            context,
            key,
            is_gated: !http1 && length.is_some(),
            multiplexed: Multiplexed::of(version),
            persistent: http1 && !closes,
            left: (version == Version::HTTP_11).then(|| LeftBody::of(length)),
        },
    };
    let request = request.map(|body| {
        let rest = UnreadBody::new(body, expects_continue, numbered);
        convert(TrackedBody::tracked(rest, handoff, unread))
    });
    ResponseFuture::new(service.call(request), Some(watch))
}

#[cfg(test)]
mod tests {
    use crate::{DeliveryLayer, shared::peer::Peer};

    #[test]
    fn requests_of_a_connection_count_for_one_client_without_a_key() {
        let unknown = DeliveryLayer::default();
        let connection = unknown.clone().with_peer(Peer::keyed(None));
        let are_one = |layer: DeliveryLayer| {
            let service = layer.with_connection((), None);
            let [one, other] = [(); 2].map(|()| service.context.peer(None).id());
            one == other
        };
        assert!(are_one(connection));
        assert!(!are_one(unknown));
    }
}
