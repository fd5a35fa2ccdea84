use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
    time::Duration,
};

use http::request::Parts;

use crate::{
    budget::{Bounds, Good, STALL_TIMEOUT},
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
    http3_stream_linger: Option<StreamLinger>,
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
            http3_stream_linger: None,
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

    /// Sets how long an HTTP/3 stream is read after an early response. Default:
    /// [`StreamLinger::http3`].
    #[must_use]
    pub fn http3_stream_linger(mut self, stream_linger: StreamLinger) -> Self {
        self.http3_stream_linger = Some(stream_linger);
        self
    }

    /// Sets the limits for HTTP/3 if the user has set none.
    pub(crate) fn http3_by_default(mut self, stream_linger: StreamLinger) -> Self {
        self.http3_stream_linger.get_or_insert(stream_linger);
        self
    }

    pub(super) fn http3(&self) -> StreamLinger {
        self.http3_stream_linger.unwrap_or_else(StreamLinger::http3)
    }

    /// Limits how long a stream is read before its response is out, if the response makes
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

/// Limits on reading a stream of HTTP/2 or HTTP/3 after an early response.
///
/// | | HTTP/2: [`new`](Self::new) | HTTP/3: [`http3`](Self::http3) |
/// | --- | --- | --- |
/// | [`timeout`](Self::timeout) | 2 s | 30 s |
/// | [`extended_timeout`](Self::extended_timeout) | none | 10 min above 128 KiB/s |
/// | [`idle_timeout`](Self::idle_timeout) | 1 s | 5 s |
/// | [`max_bytes`](Self::max_bytes) | 64 MiB | none |
/// | [`max_streams`](Self::max_streams) | 64 | 1024 |
///
/// Over HTTP/2, browsers show the response only when the stream ends. On a fast network 64 MiB
/// arrive within 2 s, and 2 s are acceptable for a person at a browser. Over HTTP/3 they show it as
/// it comes, and Chromium's `fetch` never settles if the server stops reading. So the limits there
/// are those of a lingering close. The number of streams counts across all connections that share
/// the settings.
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
    bounds: Bounds,
    pub(super) max_streams: usize,
}

impl StreamLinger {
    /// Returns the default limits for HTTP/2.
    #[must_use]
    pub const fn new() -> Self {
        let (idle, total) = (Duration::from_secs(1), Duration::from_secs(2));
        Self::of(Bounds::new(idle, total, Some(64 << 20)), 64)
    }

    /// Returns the default limits for HTTP/3, which are those of a lingering close.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bodyguard::{Linger, LingerConfig, StreamLinger};
    ///
    /// let streams = StreamLinger::http3().timeout(Duration::from_secs(120));
    /// let linger = Linger::new(LingerConfig::new().http3_stream_linger(streams));
    /// ```
    #[must_use]
    pub const fn http3() -> Self {
        Self::of(Bounds::LINGERING_CLOSE, 1024)
    }

    pub(crate) const fn of(bounds: Bounds, max_streams: usize) -> Self {
        Self {
            bounds,
            max_streams,
        }
    }

    /// Limits how many bytes of a stream are read after its response. Default: 64 MiB over HTTP/2,
    /// and no limit over HTTP/3.
    #[must_use]
    pub fn max_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.bounds.bytes = bytes.into();
        self
    }

    /// Limits how long a stream is read after its response. Default: 2 s over HTTP/2, and 30 s over
    /// HTTP/3.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.bounds.total = timeout;
        self
    }

    /// Sets a longer [`timeout`](Self::timeout) for a client that has sent at least `min_rate`
    /// bytes per second since its response. `None` sets no longer timeout. Default: none over
    /// HTTP/2, and 10 min above 128 KiB/s over HTTP/3.
    ///
    /// Bytes sent ahead of the rate count for at most 10 s.
    #[must_use]
    pub fn extended_timeout(mut self, min_rate: u64, timeout: impl Into<Option<Duration>>) -> Self {
        let good = |total| Good {
            rate: min_rate,
            total,
        };
        self.bounds.good = timeout.into().map(good);
        self
    }

    /// Limits how long a client may be silent after its response. Default: 1 s over HTTP/2, and 5 s
    /// over HTTP/3.
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
        self.bounds.idle = idle_timeout;
        self
    }

    /// Limits how many streams linger concurrently across all connections that share the settings.
    /// With 0, no stream lingers. Default: 64 over HTTP/2, and 1024 over HTTP/3.
    #[must_use]
    pub const fn max_streams(mut self, streams: usize) -> Self {
        self.max_streams = streams;
        self
    }

    /// Returns the limits of a stream of which `discarded` bytes came before its response.
    pub(super) fn bounds_after(&self, discarded: u64) -> Bounds {
        let Bounds {
            idle, total, bytes, ..
        } = self.bounds;
        Bounds {
            idle: idle.min(total),
            bytes: bytes.map(|bytes| bytes.saturating_add(discarded)),
            ..self.bounds
        }
    }
}

impl Default for StreamLinger {
    fn default() -> Self {
        Self::new()
    }
}

/// Finds the key of a request's client in its head.
pub(super) type KeyOfHead = dyn Fn(&Parts) -> Option<u64> + Send + Sync;

/// Finds the client whose slots a request takes.
#[derive(Clone, Default)]
pub(crate) enum RequestKey {
    /// Each request is a separate client.
    #[default]
    Each,
    /// The key of the client is a function of the request's head.
    Head(Arc<KeyOfHead>),
    /// All requests are of one client.
    One(Peer),
}

impl RequestKey {
    pub(super) fn new<F, K>(key: F) -> Self
    where
        F: Fn(&Parts) -> Option<K> + Send + Sync + 'static,
        K: Hash,
    {
        let state = RandomState::new();
        Self::Head(Arc::new(move |head| Some(state.hash_one(key(head)?))))
    }
}

impl fmt::Debug for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self {
            Self::Each => "request",
            Self::Head(_) => "..",
            Self::One(_) => "connection",
        };
        write!(f, "RequestKey({by})")
    }
}
