use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
    time::Duration,
};

use http::request::Parts;

use crate::{
    budget::{Bounds, STALL_TIMEOUT},
    observe::Observer,
    shared::peer::Peer,
};

/// The settings of a [`DeliveryLayer`](super::DeliveryLayer): plain data.
///
/// ```
/// use tower_bodyguard::{DeliveryConfig, DeliveryLayer, Drain, MIB};
///
/// let config = DeliveryConfig::new().drain(Drain::new().max_bytes(4 * MIB));
/// let layer = DeliveryLayer::new(config);
/// ```
#[derive(Clone, Debug)]
pub struct DeliveryConfig {
    pub(super) drain: Drain,
    pub(super) stream_linger: StreamLinger,
    pub(crate) stall_timeout: Duration,
    pub(crate) observer: Observer,
    pub(super) peer_key: RequestKey,
}

impl DeliveryConfig {
    /// Returns the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self {
            drain: Drain::new(),
            stream_linger: StreamLinger::new(),
            stall_timeout: STALL_TIMEOUT,
            observer: Observer::default(),
            peer_key: RequestKey::default(),
        }
    }

    /// Sets how much of an unread body is drained to keep its connection.
    #[must_use]
    pub fn drain(mut self, drain: Drain) -> Self {
        self.drain = drain;
        self
    }

    /// Sets how long an HTTP/2 stream is read after an early response.
    #[must_use]
    pub fn stream_linger(mut self, stream_linger: StreamLinger) -> Self {
        self.stream_linger = stream_linger;
        self
    }

    /// Limits how long an HTTP/2 stream is read before its response is out, if the response makes
    /// no progress. Default: 5 min.
    ///
    /// Combined with a socket, this also limits responses over HTTP/1: see
    /// [`LingerConfig::stall_timeout`](crate::LingerConfig::stall_timeout).
    #[must_use]
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// Sets the observer, which is notified of each drain and of each stream that lingers.
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }

    /// Sets the key that identifies a client. Requests for which `key` returns the same value share
    /// the slots of one client.
    ///
    /// If `key` returns `None`, or if this method is not called, each request counts as a separate
    /// client. The key is not used if the layer knows the connection. Then
    /// [`LingerConfig::peer_key`](crate::LingerConfig::peer_key) applies.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use axum::extract::ConnectInfo;
    /// use tower_bodyguard::DeliveryConfig;
    ///
    /// let config = DeliveryConfig::new().peer_key(|head| {
    ///     let peer = head.extensions.get::<ConnectInfo<SocketAddr>>()?;
    ///     Some(peer.ip())
    /// });
    /// ```
    #[must_use]
    pub fn peer_key<F, K>(mut self, key: F) -> Self
    where
        F: Fn(&Parts) -> Option<K> + Send + Sync + 'static,
        K: Hash,
    {
        self.peer_key = RequestKey::new(key);
        self
    }
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// Limits on draining an unread request body so that its connection can be kept.
///
/// The defaults are 1 MiB, 5 s, and 1024 concurrent drains. A new TCP and TLS connection costs
/// about 1 MiB on a path of 20 Mbit/s and 100 ms. Kestrel allows 5 s, too.
///
/// ```
/// use std::time::Duration;
/// use tower_bodyguard::{Drain, Linger, LingerConfig, MIB};
///
/// let drain = Drain::new().max_bytes(4 * MIB).timeout(Duration::from_secs(2));
/// let linger = Linger::new(LingerConfig::new().drain(drain));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    max_bytes: Option<u64>,
    timeout: Duration,
    max_connections: usize,
}

impl Drain {
    /// Returns the default limits.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_bytes: Some(1 << 20),
            timeout: Duration::from_secs(5),
            max_connections: 1024,
        }
    }

    /// Limits how many bytes are drained to keep a connection. With 0, a connection is kept only if
    /// the server does not have to wait for more body bytes. Default: 1 MiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.max_bytes = bytes.into();
        self
    }

    /// Limits how long a drain takes. Default: 5 s.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Limits how many drains run concurrently, one per connection. Default: 1024.
    ///
    /// When that limit is reached, a new drain evicts the drain with the lowest rate, divided by
    /// the number of drains that its client has.
    /// [`LingerConfig::peer_key`](crate::LingerConfig::peer_key) defines what a client is. hyper
    /// closes the connection of an evicted drain once its response is out.
    #[must_use]
    pub const fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    pub(super) fn most(&self) -> usize {
        self.max_connections
    }

    pub(super) fn budget(&self) -> u64 {
        self.max_bytes.unwrap_or(u64::MAX)
    }

    /// Returns the limits of a drain that keeps the connection.
    pub(super) fn to_keep(self) -> Bounds {
        Bounds::new(self.timeout, self.timeout, self.max_bytes)
    }

    /// Returns the limits of a drain that delivers a response without a socket wrapper: any number
    /// of bytes within the timeout.
    pub(super) fn to_deliver(self) -> Bounds {
        Bounds {
            bytes: None,
            ..self.to_keep()
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

/// Limits on reading an HTTP/2 stream after an early response.
///
/// The defaults are 64 MiB, 2 s, and 64 concurrent streams across all connections that share the
/// settings. On a fast network 64 MiB arrive within that time, and 2 s are acceptable for a person
/// at a browser. A stream whose client is silent for 1 s is dropped sooner.
///
/// When all slots are taken, a new stream evicts the stream with the lowest rate, divided by the
/// number of slots that its client holds. [`LingerConfig::peer_key`](crate::LingerConfig::peer_key)
/// defines what a client is. With no slots at all, a stream is held unread for 20 ms and then
/// dropped. That is enough for clients that stop by themselves, such as curl.
///
/// A stream is also read until its response is out, because all streams share the connection's
/// flow-control window. Reading goes on as long as the response makes progress. Without progress,
/// it stops after the [stall timeout](crate::LingerConfig::stall_timeout) or after
/// [`max_bytes`](Self::max_bytes).
///
/// ```
/// use std::time::Duration;
/// use tower_bodyguard::{Linger, LingerConfig, StreamLinger};
///
/// // For clients that cannot stop before they have sent everything.
/// let streams = StreamLinger::new().timeout(Duration::from_secs(20));
/// let linger = Linger::new(LingerConfig::new().stream_linger(streams));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLinger {
    pub(super) max_bytes: Option<u64>,
    pub(super) timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) max_streams: usize,
}

impl StreamLinger {
    /// Returns the default limits.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_bytes: Some(64 << 20),
            timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(1),
            max_streams: 64,
        }
    }

    /// Limits how many bytes of a stream are read after its response. Default: 64 MiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.max_bytes = bytes.into();
        self
    }

    /// Limits how long a stream is read after its response. Default: 2 s.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Limits how long a client may be silent after its response. Default: 1 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bodyguard::StreamLinger;
    ///
    /// // For clients whose connection may stall.
    /// let stream_linger = StreamLinger::new()
    ///     .timeout(Duration::from_secs(20))
    ///     .idle_timeout(Duration::from_secs(5));
    /// ```
    #[must_use]
    pub const fn idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.idle_timeout = idle_timeout;
        self
    }

    /// Limits how many streams linger concurrently across all connections that share the settings.
    /// With 0, no stream lingers. Default: 64.
    #[must_use]
    pub const fn max_streams(mut self, streams: usize) -> Self {
        self.max_streams = streams;
        self
    }
}

impl Default for StreamLinger {
    fn default() -> Self {
        Self::new()
    }
}

type Key = dyn Fn(&Parts) -> Option<u64> + Send + Sync;

/// A function from a request's head to the client whose slots the request takes.
#[derive(Clone, Default)]
pub(crate) struct RequestKey(Option<Arc<Key>>);

impl RequestKey {
    pub(super) fn new<F, K>(key: F) -> Self
    where
        F: Fn(&Parts) -> Option<K> + Send + Sync + 'static,
        K: Hash,
    {
        let state = RandomState::new();
        Self(Some(Arc::new(move |head| Some(state.hash_one(key(head)?)))))
    }

    pub(super) fn of(&self, head: &Parts) -> Peer {
        Peer::keyed(self.0.as_ref().and_then(|key| key(head)))
    }
}

impl fmt::Debug for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.0.is_some() { ".." } else { "request" };
        write!(f, "RequestKey({by})")
    }
}
