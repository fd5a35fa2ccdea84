use std::sync::Arc;

use tower_layer::Layer;

use super::{
    Delivery,
    config::{DeliveryConfig, PeerKey},
    handle::DeliveryHandle,
};

/// Sees to it that early answers go out on an honest connection.
///
/// # The problem
///
/// A handler, an auth layer or a router answers before the request body was read.
/// hyper then closes the connection without having said so, even where the rest of
/// the body is a few bytes; and a client that writes everything before it reads
/// stops a long answer for good.
///
/// # What it does
///
/// When an answer comes while bytes of the request are owed:
///
/// | the rest of the body | |
/// | --- | --- |
/// | known, and within the [`Drain`](super::Drain) | the answer goes out at once, the rest is read, the same connection serves the next request |
/// | unknown, but partly read | the same |
/// | unknown, and untouched or refused as too large while it streamed | what has arrived is taken; if that was all of it, the connection is kept, otherwise the answer says `Connection: close` |
/// | more than the drain, or failed | the answer says `Connection: close` |
/// | awaited by nobody (`Expect: 100-continue` not yet answered) | never asked for; the answer says `Connection: close` |
/// | still held by somebody, as when streaming both ways | hands off until it is let go of |
///
/// Upgrades are let alone once they are agreed on.
///
/// On HTTP/2 a stream that is owed bytes is read on for a while after its answer
/// ([`StreamLinger`](super::StreamLinger)), and then reset with `NO_ERROR`. Other streams go on.
///
/// # Where it belongs
///
/// Outermost, around every layer that may answer. Joined with the hook, as
/// `axum::serve` of this crate does it, it needs no layer, and loses no answer within the bounds. **As
/// a layer it reads on for the time of the [`Drain`](super::Drain) to deliver an answer; what a
/// client sends after that meets a reset.**
///
/// ```
/// use axum::{Router, http::StatusCode, routing::post};
/// use tower_bodyguard::DeliveryLayer;
///
/// let app: Router = Router::new()
///     .route("/", post(|| async { StatusCode::UNAUTHORIZED }))
///     .layer(DeliveryLayer::default());
/// ```
#[derive(Clone, Debug)]
pub struct DeliveryLayer {
    handle: Arc<DeliveryHandle>,
    peer_key: PeerKey,
}

impl DeliveryLayer {
    /// Makes a layer with these settings. The limits on the number of drains and streams count
    /// for all the services that it makes.
    #[must_use]
    pub fn new(config: DeliveryConfig) -> Self {
        Self {
            handle: DeliveryHandle::new(&config),
            peer_key: config.peer_key,
        }
    }

    /// Makes a layer for the connections of a handle, which has the state.
    pub(crate) fn of(handle: Arc<DeliveryHandle>) -> Self {
        Self {
            handle,
            peer_key: PeerKey::default(),
        }
    }
}

impl Default for DeliveryLayer {
    fn default() -> Self {
        Self::new(DeliveryConfig::default())
    }
}

impl<S> Layer<S> for DeliveryLayer {
    type Service = Delivery<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Delivery::from_handle(inner, Arc::clone(&self.handle), self.peer_key.clone())
    }
}

impl<S> Delivery<S> {
    /// Wraps `inner`, as [`DeliveryLayer::new`] does.
    pub fn new(inner: S, config: DeliveryConfig) -> Self {
        DeliveryLayer::new(config).layer(inner)
    }

    /// Returns [`DeliveryLayer::new`].
    #[must_use]
    pub fn layer(config: DeliveryConfig) -> DeliveryLayer {
        DeliveryLayer::new(config)
    }
}
