use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
    time::Duration,
};

use http::request::Parts;

use crate::{budget::Bounds, shared::peer::Peer};

/// What a kept connection is worth: how much of a refused body is read on, and
/// for how long.
///
/// The default is 1 MiB and 5 s, and 1024 drains at a time. The bytes are about what a new
/// TCP and TLS connection costs on a path of 20 Mbit/s and 100 ms; the time is what Kestrel
/// allows.
///
/// ```
/// use std::time::Duration;
/// use tower_bodyguard::{Drain, Linger, MIB};
///
/// let drain = Drain::new().bytes(4 * MIB).total(Duration::from_secs(2));
/// let linger = Linger::new().drain(drain);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    bytes: u64,
    total: Duration,
    max_connections: usize,
}

impl Drain {
    /// With the default bounds.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: 1 << 20,
            total: Duration::from_secs(5),
            max_connections: 1024,
        }
    }

    /// How many bytes are read to keep a connection. 0 keeps none that would have
    /// to wait.
    #[must_use]
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// How long a drain takes at most.
    #[must_use]
    pub const fn total(mut self, total: Duration) -> Self {
        self.total = total;
        self
    }

    /// Limits how many drains run at a time, 1024 by default; each is of a connection of its
    /// own. When that limit is reached, a new one evicts the slowest drain of the client that
    /// has the most ([`Linger::peer_key`](crate::Linger::peer_key) says what a client is).
    /// hyper closes the connection of an evicted drain once its answer is out.
    #[must_use]
    pub const fn max_connections(mut self, max_connections: usize) -> Self {
        self.max_connections = max_connections;
        self
    }

    pub(super) fn most(&self) -> usize {
        self.max_connections
    }

    pub(super) fn budget(&self) -> u64 {
        self.bytes
    }

    /// To keep the connection.
    pub(super) fn to_keep(self) -> Bounds {
        Bounds::new(self.total, self.total, Some(self.bytes))
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
/// When all slots are taken, a new stream evicts the slowest stream of the client that holds
/// the most ([`Linger::peer_key`](crate::Linger::peer_key) says what a client is). With no
/// slots at all, a stream is held unread for 20 ms and then dropped, which is enough for
/// clients that stop by themselves, such as curl.
///
/// Until its response is out a stream is read as well, for its window is the whole
/// connection's: as long as the response makes progress, and for the
/// [stall timeout](crate::Linger::stall_timeout), or as many bytes, without any.
///
/// ```
/// use std::time::Duration;
/// use tower_bodyguard::{Linger, StreamLinger};
///
/// // For clients that cannot stop before they have sent everything.
/// let linger = Linger::new().stream_linger(StreamLinger::new().total(Duration::from_secs(20)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLinger {
    pub(super) bytes: u64,
    pub(super) total: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) at_once: usize,
}

impl StreamLinger {
    /// With the default bounds.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: 64 << 20,
            total: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(1),
            at_once: 64,
        }
    }

    /// How many bytes of a stream are read after its answer.
    #[must_use]
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// How long a stream is read after its answer.
    #[must_use]
    pub const fn total(mut self, total: Duration) -> Self {
        self.total = total;
        self
    }

    /// Limits how long a client may be silent after its answer, 1 s by default.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bodyguard::StreamLinger;
    ///
    /// // For clients whose line may stall.
    /// let stream_linger = StreamLinger::new()
    ///     .total(Duration::from_secs(20))
    ///     .idle_timeout(Duration::from_secs(5));
    /// ```
    #[must_use]
    pub const fn idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.idle_timeout = idle_timeout;
        self
    }

    /// How many streams are read on at once. 0 reads none.
    #[must_use]
    pub const fn at_once(mut self, streams: usize) -> Self {
        self.at_once = streams;
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
