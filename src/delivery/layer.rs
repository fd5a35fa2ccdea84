use std::{hash::Hash, sync::Arc};

use http::request::Parts;
use tower_layer::Layer;

use super::{
    Delivery,
    config::{Drain, PeerKey, StreamLinger},
    state::State,
};
use crate::{budget::STALL_TIMEOUT, observe::Observer};

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
/// | known, and within the [`Drain`] | the answer goes out at once, the rest is read, the same connection serves the next request |
/// | unknown, but partly read | the same |
/// | unknown, and untouched or refused as too large while it streamed | what has arrived is taken; if that was all of it, the connection is kept, otherwise the answer says `Connection: close` |
/// | more than the drain, or failed | the answer says `Connection: close` |
/// | awaited by nobody (`Expect: 100-continue` not yet answered) | never asked for; the answer says `Connection: close` |
/// | still held by somebody, as when streaming both ways | hands off until it is let go of |
///
/// Upgrades are let alone once they are agreed on.
///
/// On HTTP/2 a stream that is owed bytes is read on for a while after its answer
/// ([`StreamLinger`]), and then reset with `NO_ERROR`. Other streams go on.
///
/// # Where it belongs
///
/// Outermost, around every layer that may answer. Joined with the hook, as
/// `linger.serve` does it for axum, it needs no layer, and loses no answer within the bounds. **As
/// a layer it reads on for the time of the [`Drain`] to deliver an answer; what a
/// client sends after that meets a reset.**
///
/// ```
/// use axum::{Router, http::StatusCode, routing::post};
/// use tower_bodyguard::DeliveryLayer;
///
/// let app: Router = Router::new()
///     .route("/", post(|| async { StatusCode::UNAUTHORIZED }))
///     .layer(DeliveryLayer::new());
/// ```
#[derive(Clone, Debug)]
pub struct DeliveryLayer {
    shared: Arc<State>,
    peer_key: PeerKey,
}

impl DeliveryLayer {
    /// With the default [`Drain`] and [`StreamLinger`].
    #[must_use]
    pub fn new() -> Self {
        Self::of(State::new(
            Drain::new(),
            STALL_TIMEOUT,
            StreamLinger::new(),
            Observer::default(),
        ))
    }

    pub(crate) fn of(shared: Arc<State>) -> Self {
        Self {
            shared,
            peer_key: PeerKey::default(),
        }
    }

    /// Sets which requests belong to one client, for its share of the slots: those for which
    /// `key` returns the same value.
    ///
    /// Without a key, a request is a client of its own: so is each one if this is not called.
    /// It is not asked where the layer knows the connection: see
    /// [`Linger::peer_key`](crate::Linger::peer_key).
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use axum::extract::ConnectInfo;
    /// use tower_bodyguard::DeliveryLayer;
    ///
    /// let layer = DeliveryLayer::new().peer_key(|head| {
    ///     let peer = head.extensions.get::<ConnectInfo<SocketAddr>>()?;
    ///     Some(peer.ip())
    /// });
    /// ```
    #[must_use]
    pub fn peer_key<F, K>(self, key: F) -> Self
    where
        F: Fn(&Parts) -> Option<K> + Send + Sync + 'static,
        K: Hash,
    {
        Self {
            peer_key: PeerKey::new(key),
            ..self
        }
    }

    /// What a kept connection is worth.
    #[must_use]
    pub fn drain(self, drain: Drain) -> Self {
        let shared = &self.shared;
        Self {
            shared: State::new(
                drain,
                shared.stall_timeout,
                shared.streams.settings(),
                shared.observer.clone(),
            ),
            ..self
        }
    }

    /// How long a stream of HTTP/2 is read on after an early answer. The number of
    /// such streams is counted for all the services that this layer makes.
    #[must_use]
    pub fn stream_linger(self, settings: StreamLinger) -> Self {
        let shared = &self.shared;
        Self {
            shared: State::new(
                shared.drain,
                shared.stall_timeout,
                settings,
                shared.observer.clone(),
            ),
            ..self
        }
    }

    /// Who is told of each drain, and of each stream that lingers.
    #[must_use]
    pub fn observer(self, observer: Observer) -> Self {
        let shared = &self.shared;
        Self {
            shared: State::new(
                shared.drain,
                shared.stall_timeout,
                shared.streams.settings(),
                observer,
            ),
            ..self
        }
    }
}

impl Default for DeliveryLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for DeliveryLayer {
    type Service = Delivery<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Delivery::new(inner, Arc::clone(&self.shared), self.peer_key.clone())
    }
}
