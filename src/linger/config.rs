use std::{hash::Hash, net::SocketAddr, time::Duration};

use super::peer_key::PeerKey;
use crate::{
    budget::{Bounds, Good, Least},
    delivery::{DeliveryConfig, Drain, StreamLinger},
    observe::Observer,
};

/// The settings of a [`Linger`](super::Linger): plain data.
///
/// A lingering connection is closed when its client has closed it, or at the first of these
/// limits:
///
/// | setting | default | closes a connection when |
/// | --- | --- | --- |
/// | [`idle_timeout`](Self::idle_timeout) | 5 s | the client has sent nothing for this time |
/// | [`timeout`](Self::timeout) | 30 s | this time has passed since the server dropped the connection |
/// | [`extended_timeout`](Self::extended_timeout) | 10 min above 128 KiB/s | the same, if the client sends fast |
/// | [`min_rate`](Self::min_rate) | none | the client sends too slowly |
/// | [`max_bytes`](Self::max_bytes) | none | more bytes were discarded |
/// | [`max_connections`](Self::max_connections) | 1024, or a quarter of the file descriptors | it is [evicted](super::Linger#eviction) |
///
/// The first two defaults are nginx's `lingering_timeout` and `lingering_time`. A client that sends
/// for longer than these limits allow loses the response, as it would without a lingering close.
///
/// If a limit can be absent, its setter takes an `Option`: `.max_bytes(500 * MIB)` and
/// `.max_bytes(None)`.
///
/// ```
/// use std::time::Duration;
/// use tower_bodyguard::{Linger, LingerConfig, MIB};
///
/// let config = LingerConfig::new()
///     .idle_timeout(Duration::from_secs(10))
///     .timeout(Duration::from_secs(120))
///     .max_bytes(500 * MIB);
/// let linger = Linger::new(config);
/// ```
#[derive(Clone, Debug)]
pub struct LingerConfig {
    pub(super) bounds: Bounds,
    pub(super) half_close_timeout: Duration,
    pub(super) max_connections: Option<usize>,
    pub(super) peer_key: PeerKey,
    pub(super) delivery: DeliveryConfig,
    pub(super) shutdown_timeout: Duration,
}

impl LingerConfig {
    /// Returns the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bounds: Bounds::LINGERING_CLOSE,
            half_close_timeout: Duration::from_secs(1),
            max_connections: None,
            peer_key: PeerKey::default(),
            delivery: DeliveryConfig::new(),
            shutdown_timeout: Duration::from_secs(10),
        }
    }

    /// Limits how long a client may send nothing. Default: 5 s.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.bounds.idle = timeout;
        self
    }

    /// Limits how long the half-close waits for a client that sends nothing, if
    /// [delivery](crate::Delivery) is combined. Default: 1 s.
    ///
    /// The response is sent immediately. Some clients abort their upload when they see the end of
    /// the connection while they still send, and lose the response: reqwest's blocking client does.
    /// So the half-close waits until the client has sent nothing for this time, at most half of the
    /// [`idle_timeout`](Self::idle_timeout). It waits for 100 ms of silence at most
    ///
    /// - when as many bytes have come as the request has declared,
    /// - while more than half of the [slots](Self::max_connections) are taken,
    /// - during a shutdown.
    ///
    /// A wait that has begun before that keeps its time. Beneath TLS, the half-close waits with
    /// rustls only.
    ///
    /// It waits for no client of HTTP/1.0, and for none that has sent `Expect: 100-continue` and
    /// got no `100 Continue`. With [`Duration::ZERO`] it never waits.
    #[must_use]
    pub fn half_close_timeout(mut self, timeout: Duration) -> Self {
        self.half_close_timeout = timeout;
        self
    }

    /// Limits how long a connection lingers. Default: 30 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.bounds.total = timeout;
        self
    }

    /// Sets a longer [`timeout`](Self::timeout) for a client that has sent at least `min_rate`
    /// bytes per second so far. It is meant for a person with a large file on a slow line. `None`
    /// sets no longer timeout. Default: 10 min above 128 KiB/s.
    ///
    /// Bytes sent ahead of the rate count for at most 10 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bodyguard::{KIB, LingerConfig};
    ///
    /// let config = LingerConfig::new().extended_timeout(64 * KIB, Duration::from_secs(1200));
    /// let same_for_all = LingerConfig::new().extended_timeout(0, None);
    /// ```
    #[must_use]
    pub fn extended_timeout(mut self, min_rate: u64, timeout: impl Into<Option<Duration>>) -> Self {
        let good = |total| Good {
            rate: min_rate,
            total,
        };
        self.bounds.good = timeout.into().map(good);
        self
    }

    /// Sets the rate, in bytes per second, below which a connection is closed after the first
    /// `grace`. Default: none.
    ///
    /// Bytes sent ahead of the rate count for as long as `grace`, but for at least 1 s and at most
    /// 10 s.
    #[must_use]
    pub fn min_rate(mut self, rate: impl Into<Option<u64>>, grace: Duration) -> Self {
        self.bounds.least = rate.into().map(|rate| Least { rate, grace });
        self
    }

    /// Limits how many bytes of a connection are discarded. Default: none, because the timeouts
    /// limit the bytes to as many as the client's line carries.
    #[must_use]
    pub fn max_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.bounds.bytes = bytes.into();
        self
    }

    /// Limits how many connections linger. When that limit is reached, a new connection
    /// [evicts](super::Linger#eviction) another. With 0, no connection lingers.
    ///
    /// Default: at most 1024, and at most a quarter of the process's file descriptors, as
    /// [`Linger::new`](super::Linger::new) finds their soft limit.
    #[must_use]
    pub fn max_connections(mut self, connections: impl Into<Option<usize>>) -> Self {
        self.max_connections = connections.into();
        self
    }

    /// Sets the key that identifies a client. Connections for which `key` returns the same value
    /// share the slots of one client. If `key` returns `None`, the connection counts as a separate
    /// client. The drains and the HTTP/2 streams of a connection take the slots of the same client.
    ///
    /// If this method is not called, the key is the IP address, and for IPv6 its first 64 bits. A
    /// connection without an address counts as a separate client: over a Unix socket, or in a
    /// stream that is not tokio's `TcpStream`.
    ///
    /// Behind a proxy, all connections have one address. That does not limit them to a share,
    /// because shares matter only when slots run out. Then the slowest connection is evicted,
    /// whichever client it belongs to. If only some clients come through a proxy, the rate of each
    /// of these is divided by the number of all of them. Exempt the proxy in that case:
    ///
    /// ```
    /// use std::net::{IpAddr, Ipv4Addr};
    /// use tower_bodyguard::LingerConfig;
    ///
    /// const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    /// let config = LingerConfig::new()
    ///     .peer_key(|addr| Some(addr.ip()).filter(|ip| *ip != PROXY));
    /// ```
    #[must_use]
    pub fn peer_key<F, K>(mut self, key: F) -> Self
    where
        F: Fn(SocketAddr) -> Option<K> + Send + Sync + 'static,
        K: Hash,
    {
        self.peer_key = PeerKey::new(key);
        self
    }

    /// Sets the observer, which is notified of each [`Event`](crate::Event) of lingering closes and
    /// of delivery. The limit layer has its [own](crate::BodyGuardLayer::observer).
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.delivery = self.delivery.observer(observer);
        self
    }

    /// Sets how much of an unread body is drained to keep its connection, if
    /// [delivery](crate::Delivery) is combined.
    #[must_use]
    pub fn drain(mut self, drain: Drain) -> Self {
        self.delivery = self.delivery.drain(drain);
        self
    }

    /// Limits how long a response may make no progress while its client sends, if
    /// [delivery](crate::Delivery) is combined. Default: 5 min.
    ///
    /// A client that sends everything before it reads blocks a response that is larger than the
    /// socket's buffers. So its bytes are discarded meanwhile. When the response has made no
    /// progress for this time and the client still sends, the connection is closed. A response is
    /// not cut if its client reads it, or if its client is silent.
    ///
    /// Progress means that the kernel takes bytes. For TCP on Linux, any room in the socket's
    /// buffer suffices. Elsewhere a part of the buffer, about a third, has to become free in this
    /// time. A client that reads slowly makes progress in steps as large as a sixteenth of its
    /// receive buffer. The default is calculated, not measured: for a client that reads 2 KB/s into
    /// a buffer of 6 MiB, the most that Linux gives. At the end of a shutdown the timeout is at
    /// most 2 s.
    #[must_use]
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.delivery = self.delivery.stall_timeout(timeout);
        self
    }

    /// Sets how long an HTTP/2 stream is read after an early response, if
    /// [delivery](crate::Delivery) is combined.
    #[must_use]
    pub fn stream_linger(mut self, stream_linger: StreamLinger) -> Self {
        self.delivery = self.delivery.stream_linger(stream_linger);
        self
    }

    /// Sets how long an HTTP/3 stream is read after an early response.
    ///
    /// If this method is not called, a stream is read like a connection that lingers: for
    /// [`idle_timeout`](Self::idle_timeout), [`timeout`](Self::timeout),
    /// [`extended_timeout`](Self::extended_timeout), [`min_rate`](Self::min_rate) and
    /// [`max_bytes`](Self::max_bytes), and as many streams as
    /// [`max_connections`](Self::max_connections). Streams and connections take separate slots.
    #[must_use]
    pub fn http3_stream_linger(mut self, stream_linger: StreamLinger) -> Self {
        self.delivery = self.delivery.http3_stream_linger(stream_linger);
        self
    }

    /// Limits how long refused uploads delay a server's graceful shutdown. Default: 10 s.
    ///
    /// Bodies are drained for at most that time after the signal for
    /// [`Linger::on`](super::Linger::on). `axum::serve` of this crate then waits for lingering
    /// connections for as long again. With other servers,
    /// [`Linger::shutdown`](super::Linger::shutdown) waits for them.
    #[must_use]
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }
}

impl Default for LingerConfig {
    fn default() -> Self {
        Self::new()
    }
}
