use std::{hash::Hash, net::SocketAddr, time::Duration};

use super::peer_key::PeerKey;
use crate::{
    KIB,
    budget::{Bounds, Good, Least},
    delivery::{DeliveryConfig, Drain, StreamLinger},
    observe::Observer,
};

/// The settings of a [`Linger`](super::Linger): plain data.
///
/// A lingering connection is closed when its client has closed it, or at the first of these
/// limits:
///
/// | setting | default | |
/// | --- | --- | --- |
/// | [`idle_timeout`](Self::idle_timeout) | 5 s | the client sends nothing |
/// | [`timeout`](Self::timeout) | 30 s | in total, since the server dropped the connection |
/// | [`extended_timeout`](Self::extended_timeout) | 10 min above 128 KiB/s | the same, for a client that sends fast |
/// | [`min_rate`](Self::min_rate) | none | the client sends too slowly |
/// | [`max_bytes`](Self::max_bytes) | none | discarded in total |
/// | [`max_connections`](Self::max_connections) | 1024, or a quarter of the file descriptors | lingering connections |
///
/// The first two defaults are nginx's `lingering_timeout` and `lingering_time`. A client that
/// sends for longer than that loses the response as it would without a lingering close.
///
/// Where "none" makes sense, a setter takes an `Option`: `.max_bytes(500 * MIB)` and
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
            bounds: Bounds {
                good: Some(Good {
                    rate: 128 * KIB,
                    total: Duration::from_secs(600),
                }),
                ..Bounds::new(Duration::from_secs(5), Duration::from_secs(30), None)
            },
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

    /// Limits how long a connection lingers. Default: 30 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.bounds.total = timeout;
        self
    }

    /// Sets a longer [`timeout`](Self::timeout) for a client that has sent at least `min_rate`
    /// bytes per second so far: for a person with a large file on a slow line. `None` sets no
    /// longer one. Default: 10 min above 128 KiB/s.
    ///
    /// Bytes sent ahead of the rate count for 10 s at most.
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

    /// Sets the rate, in bytes per second, below which a connection is closed once `grace` is
    /// over. Default: none.
    ///
    /// Bytes sent ahead of the rate count for as long as the grace, but for 1 s at least and
    /// for 10 s at most.
    #[must_use]
    pub fn min_rate(mut self, rate: impl Into<Option<u64>>, grace: Duration) -> Self {
        self.bounds.least = rate.into().map(|rate| Least { rate, grace });
        self
    }

    /// Limits how many bytes of a connection are discarded. Default: none, for the timeouts
    /// limit them by what the client's line carries.
    #[must_use]
    pub fn max_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.bounds.bytes = bytes.into();
        self
    }

    /// Limits how many connections linger. When that limit is reached, a new connection
    /// [evicts](super::Linger#who-is-evicted) another. 0 lets none linger.
    ///
    /// Default: at most 1024, and at most a quarter of the process's file descriptors, as
    /// [`Linger::new`](super::Linger::new) finds their soft limit.
    #[must_use]
    pub fn max_connections(mut self, connections: impl Into<Option<usize>>) -> Self {
        self.max_connections = connections.into();
        self
    }

    /// Sets which connections belong to one client, for its share of the slots: those for
    /// which `key` returns the same value. Without a key, a connection is a client of its own.
    /// The streams of an HTTP/2 connection, and its drains, take the slots of its client.
    ///
    /// If this is not called, the key is the IP address, and of IPv6 its first 64 bits. A
    /// connection that has no address, over a Unix socket or in a stream that is not tokio's
    /// `TcpStream`, is a client of its own.
    ///
    /// Behind a proxy all connections have one address. They are not held to a share then,
    /// for shares matter only when slots run out: the slowest is evicted, whoever's it is.
    /// If some clients come through a proxy and others do not, the rate of each client behind
    /// it is divided by the number of all of them. Exempt the proxy:
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

    /// Sets the observer, which is notified of each [`Event`](crate::Event) of lingering closes
    /// and of delivery. The limit layer has its [own](crate::BodyGuardLayer::observer).
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.delivery = self.delivery.observer(observer);
        self
    }

    /// Sets how much of an unread body is drained to keep its connection, where
    /// [delivery](crate::Delivery) is combined.
    #[must_use]
    pub fn drain(mut self, drain: Drain) -> Self {
        self.delivery = self.delivery.drain(drain);
        self
    }

    /// Limits how long a response may make no progress while its client sends, where
    /// [delivery](crate::Delivery) is combined. Default: 5 min.
    ///
    /// A client that sends everything before it reads stops a response that is larger than the
    /// socket's buffers, so what it sends is discarded meanwhile. When the response has made no
    /// progress for this time and the client still sends, the connection is closed. A response
    /// that the client reads is not cut, nor is one whose client is silent.
    ///
    /// Progress is what the kernel takes. For TCP on Linux that is any room in the socket's
    /// buffer; elsewhere a part of the buffer, a third of it or so, has to become free in this
    /// time. A client that reads slowly makes progress in steps as large as a sixteenth of its
    /// receive buffer. The default is reckoned for one that reads 2 KB/s into the 6 MiB that Linux
    /// gives at most; it was not measured. At the end of a
    /// shutdown the timeout is 2 s at most.
    #[must_use]
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.delivery = self.delivery.stall_timeout(timeout);
        self
    }

    /// Sets how long an HTTP/2 stream is read after an early response, where
    /// [delivery](crate::Delivery) is combined.
    #[must_use]
    pub fn stream_linger(mut self, stream_linger: StreamLinger) -> Self {
        self.delivery = self.delivery.stream_linger(stream_linger);
        self
    }

    /// Limits how long refused uploads hold up a server's graceful shutdown. Default: 10 s.
    ///
    /// Bodies are drained for that time after the signal that [`Linger::on`](super::Linger::on)
    /// waits for. `axum::serve` of this crate then waits as long for lingering connections;
    /// elsewhere [`Linger::shutdown`](super::Linger::shutdown) does that.
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
