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
    pub(super) peer_key: PeerKey,
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
            peer_key: PeerKey::default(),
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

    /// Limits how long an HTTP/2 stream is read before its response is out, if the response
    /// makes no progress. Default: 5 min.
    ///
    /// Combined with a socket, it limits responses over HTTP/1 as well: see
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

    /// Sets which requests belong to one client, for its share of the slots: those for which
    /// `key` returns the same value.
    ///
    /// Without a key, a request is a client of its own: so is each one if this is not called.
    /// It is not asked where the layer knows the connection: see
    /// [`LingerConfig::peer_key`](crate::LingerConfig::peer_key).
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
        self.peer_key = PeerKey::new(key);
        self
    }
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// What a kept connection is worth: how much of a refused body is read on, and
/// for how long.
///
/// The default is 1 MiB and 5 s, and 1024 drains at a time. The bytes are about what a new
/// TCP and TLS connection costs on a path of 20 Mbit/s and 100 ms; the time is what Kestrel
/// allows.
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

    /// Limits how many bytes are read to keep a connection. 0 keeps none that would have to
    /// wait. Default: 1 MiB.
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

    /// Limits how many drains run at a time, each for a connection of its own. Default: 1024.
    ///
    /// When that limit is reached, a new drain evicts the drain with the lowest rate, divided by
    /// the number of drains that its client has
    /// ([`LingerConfig::peer_key`](crate::LingerConfig::peer_key) says what a client is). hyper
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

    /// To keep the connection.
    pub(super) fn to_keep(self) -> Bounds {
        Bounds::new(self.timeout, self.timeout, self.max_bytes)
    }

    /// To deliver an answer where no hook will: as much as comes in that time.
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

/// How long a stream of HTTP/2 is read on after an early answer.
///
/// The default is 64 MiB and 2 s, and 64 streams at once in all the connections that
/// share the settings: whole on a fast network, and over in time for a person at a
/// browser. A stream whose client is silent for 1 s is dropped sooner.
///
/// When all slots are taken, a new stream evicts the stream with the lowest rate, divided by the
/// number of slots that its client holds
/// ([`LingerConfig::peer_key`](crate::LingerConfig::peer_key) says what a client is). With no
/// slots at all, a stream is held unread for 20 ms and then dropped, which is enough for clients
/// that stop by themselves, such as curl.
///
/// Until its response is out a stream is read as well, for its window is the whole
/// connection's: as long as the response makes progress, and for the
/// [stall timeout](crate::LingerConfig::stall_timeout), or as many bytes, without any.
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
    /// // For clients whose line may stall.
    /// let stream_linger = StreamLinger::new()
    ///     .timeout(Duration::from_secs(20))
    ///     .idle_timeout(Duration::from_secs(5));
    /// ```
    #[must_use]
    pub const fn idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.idle_timeout = idle_timeout;
        self
    }

    /// Limits how many streams linger at a time, in all the connections that share the
    /// settings. 0 lets none linger. Default: 64.
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

/// Whose slots a request takes, by its head.
#[derive(Clone, Default)]
pub(crate) struct PeerKey(Option<Arc<Key>>);

impl PeerKey {
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

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.0.is_some() { ".." } else { "request" };
        write!(f, "PeerKey({by})")
    }
}
