use std::sync::Arc;

use tower_layer::Layer;

use super::{
    Delivery,
    config::{DeliveryConfig, RequestKey},
    context::DeliveryContext,
    handle::DeliveryHandle,
};
use crate::shared::{connection::Connection, peer::Peer};

/// A layer that sends early responses with a truthful `Connection` header, and keeps the connection
/// if it can.
///
/// # The problem
///
/// A handler, an auth layer or a router often responds before it has read the request body. hyper
/// then closes the connection without announcing it, even if the unread body is only a few bytes. A
/// client that writes everything before it reads blocks a long response permanently.
///
/// # Behavior
///
/// When a response is ready and the client still owes body bytes, the unread body decides:
///
/// | unread body | behavior |
/// | --- | --- |
/// | of known length, within the [`Drain`](super::Drain) limit | The response goes out without waiting. The body is drained, and the same connection serves the next request. |
/// | of unknown length, but partly read | The same. |
/// | of unknown length, and never read or refused as too large while it streamed | Bytes that have arrived are read. If they complete the body, the connection is kept. Otherwise the response says `Connection: close`. |
/// | longer than the [`Drain`](super::Drain) limit, or failed | The response says `Connection: close`. If the limit is below 1 MiB, a body of at most 1 MiB that has already arrived is read first, and the connection is kept. |
/// | held back by a client that waits for `100 Continue` | The client is never asked for the body. The response says `Connection: close`. |
/// | still held by the service, as in bidirectional streaming | The layer does nothing until the service drops the body. |
///
/// A response with status 101 (Switching Protocols) passes unchanged.
///
/// On HTTP/2 and HTTP/3, the layer reads a stream with an unread body for a while after its
/// response ([`StreamLinger`](super::StreamLinger)). Then it drops the body. h2 resets the stream
/// with `NO_ERROR`, and so does the crate `tower-bodyguard-h3` over HTTP/3. Other streams go on.
///
/// # Placement
///
/// Put the layer outermost, around every layer that may respond early. `axum::serve` of this crate
/// needs no layer: it combines delivery with the socket wrapper, and loses no response within the
/// limits. **The layer alone drains for the [`Drain`](super::Drain) timeout to deliver a response.
/// If the client sends for longer, its connection is reset.**
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
    peer_key: RequestKey,
}

impl DeliveryLayer {
    /// Creates a layer with these settings. All services that it makes share the limits on the
    /// number of drains and streams.
    #[must_use]
    pub fn new(config: DeliveryConfig) -> Self {
        Self {
            handle: DeliveryHandle::new(&config),
            peer_key: config.peer_key,
        }
    }

    /// Creates a layer that uses the state of a handle.
    pub(crate) fn of(handle: Arc<DeliveryHandle>) -> Self {
        Self {
            handle,
            peer_key: RequestKey::default(),
        }
    }

    /// Makes all requests count for this client.
    pub(crate) fn with_peer(mut self, peer: Peer) -> Self {
        self.peer_key = RequestKey::One(peer.identified());
        self
    }

    /// Wraps the service of one connection, and combines it with the socket, which shares
    /// `connection`.
    pub(crate) fn with_connection<S>(
        &self,
        inner: S,
        connection: Option<Arc<Connection>>,
    ) -> Delivery<S> {
        let context = DeliveryContext {
            handle: Arc::clone(&self.handle),
            peer_key: self.peer_key.clone(),
            connection,
        };
        Delivery::from_context(inner, Arc::new(context))
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
        self.with_connection(inner, None)
    }
}

impl<S> Delivery<S> {
    /// Wraps `inner`, as a [`DeliveryLayer`] with these settings does.
    pub fn new(inner: S, config: DeliveryConfig) -> Self {
        DeliveryLayer::new(config).layer(inner)
    }

    /// Returns a [`DeliveryLayer`] with these settings.
    #[must_use]
    pub fn layer(config: DeliveryConfig) -> DeliveryLayer {
        DeliveryLayer::new(config)
    }
}
