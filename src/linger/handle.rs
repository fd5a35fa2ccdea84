use std::{
    fmt,
    hash::Hash,
    iter,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, time::sleep};

use super::{
    descriptors::Descriptors,
    peer_key::PeerKey,
    stats::{Counters, Stats},
};
use crate::{
    KIB,
    bounds::{Bounds, Discarding, Ended, Good, Least},
    delivery::{self, Drain, StreamLinger},
    event::{Discarded, Event, Observer},
    peer::Peer,
    stall::{STALL_TIMEOUT, STALL_TIMEOUT_AT_SHUTDOWN},
    tasks::Tasks,
};

/// The hook's settings and its counters, shared by all the connections it is
/// given to.
///
/// # The problem
///
/// A server that answers early and closes, as hyper does, resets the connection
/// under a client that still sends: the person reads "connection reset", not the
/// answer. Behind a proxy it is a 502.
///
/// # What it does
///
/// [`LingerIo`](super::LingerIo) around a socket: when the server shuts the
/// connection down, everything written is flushed, then the sending side is
/// closed. When the server drops the socket, a small task takes it over,
/// discards what the client still sends, and closes when the client has, or at
/// the first of these bounds:
///
/// | bound | default | |
/// | --- | --- | --- |
/// | [`idle`](Self::idle) | 5 s | nothing came for so long |
/// | [`total`](Self::total) | 30 s | since the server let go |
/// | [`good_rate`](Self::good_rate) | 128 KiB/s, 10 min | who sends that fast has longer |
/// | [`min_rate`](Self::min_rate) | none | who sends more slowly has less |
/// | [`bytes`](Self::bytes) | none | discarded in all |
/// | [`at_once`](Self::at_once) | 1024, or a quarter of the descriptors | connections that linger |
///
/// The first two are nginx's `lingering_timeout` and `lingering_time`. A client
/// that sends longer than that loses the answer as it would without the hook.
///
/// # Who is evicted
///
/// A *client* is an address, or of IPv6 a network of 64 bits; see
/// [`peer_key`](Self::peer_key).
///
/// The first to go is the connection with the lowest rate, divided by the number of
/// connections that its client has. Of one client, that is the slowest.
///
/// - When all slots are taken, a new connection evicts the first to go.
/// - While more than half of the slots are taken, a new connection evicts the first to go if
///   that is below 64 B/s.
/// - When a new connection's file descriptor is among the last 32 of the process limit (the
///   last eighth of a limit below 256), the first to go is evicted.
///
/// A rate is a mean that forgets with a time constant of 1 s, and counts up to 24 KiB/s. A
/// newcomer begins at 1 KiB/s, and so is below 64 B/s after 2.8 s of silence.
///
/// # Example
///
/// ```no_run
/// # #[cfg(feature = "axum")] {
/// use std::time::Duration;
/// use tower_bodyguard::{Linger};
///
/// # async fn run(app: axum::Router) -> std::io::Result<()> {
/// let linger = Linger::new().total(Duration::from_secs(120));
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
/// axum::serve(linger.listener(listener), app).await
/// # }
/// # }
/// ```
///
/// # Caveats
///
/// - The bounds are set before the handle is shared: each setter returns a handle
///   with counters of its own.
/// - Lingering needs a tokio runtime with timers enabled. A connection that is
///   dropped outside a runtime is closed plainly, and so is each one that still
///   lingers when its runtime ends: see [`shutdown`](Self::shutdown).
/// - A client that sends before it reads stops a long answer for good, since nobody
///   reads what it sends. The hook alone cannot know that nobody will; [joined](Self::join) with
///   delivery it does.
#[derive(Clone)]
pub struct Linger(Arc<Shared>);

struct Shared {
    settings: Settings,
    /// The handle that this one is a [child](Linger::child) of.
    parent: Option<Linger>,
    delivery: Arc<delivery::Shared>,
    tasks: Arc<Tasks>,
    counters: Counters,
    before_shutdown: OnceLock<Stats>,
    /// The runtime has been seen to have them.
    has_timers: OnceLock<()>,
    /// Connections that are closing: from the half-close to the end of the linger.
    closing: AtomicUsize,
    none_closing: Notify,
}

#[derive(Clone)]
struct Settings {
    bounds: Bounds,
    at_once: usize,
    peer_key: PeerKey,
    descriptors: Descriptors,
    observer: Observer,
    drain: Drain,
    stall_timeout: Duration,
    stream_linger: StreamLinger,
    grace: Duration,
}

impl Linger {
    /// With the default bounds.
    #[must_use]
    pub fn new() -> Self {
        let descriptors = Descriptors::read();
        Self::with_settings(Settings {
            bounds: Bounds {
                good: Some(Good {
                    rate: 128 * KIB,
                    total: Duration::from_secs(600),
                }),
                ..Bounds::new(Duration::from_secs(5), Duration::from_secs(30), None)
            },
            at_once: descriptors.default_at_once(),
            peer_key: PeerKey::default(),
            descriptors,
            observer: Observer::default(),
            drain: Drain::new(),
            stall_timeout: STALL_TIMEOUT,
            stream_linger: StreamLinger::new(),
            grace: Duration::from_secs(10),
        })
    }

    /// How long a client may be silent.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bodyguard::{Linger, MIB};
    ///
    /// let linger = Linger::new()
    ///     .idle(Duration::from_secs(10))
    ///     .total(Duration::from_secs(120))
    ///     .bytes(500 * MIB);
    /// ```
    #[must_use]
    pub fn idle(self, idle: Duration) -> Self {
        self.with(|settings| settings.bounds.idle = idle)
    }

    /// How long a linger lasts at most.
    #[must_use]
    pub fn total(self, total: Duration) -> Self {
        self.with(|settings| settings.bounds.total = total)
    }

    /// How many bytes are discarded at most, `None` for no bound: the times bound
    /// them by what the client's line carries.
    #[must_use]
    pub fn bytes(self, bytes: impl Into<Option<u64>>) -> Self {
        self.with(|settings| settings.bounds.bytes = bytes.into())
    }

    /// A client that sends less than `rate` bytes per second is left, once `grace` is over;
    /// not before [`idle`](Self::idle) or [`total`](Self::total) if this is not called.
    ///
    /// Bytes sent ahead of the rate count for as long as the grace, but for 1 s at least and
    /// for 10 s at most.
    #[must_use]
    pub fn min_rate(self, rate: u64, grace: Duration) -> Self {
        self.with(|settings| settings.bounds.least = Some(Least { rate, grace }))
    }

    /// A client that has sent at least `rate` bytes per second so far may go on until
    /// `total`: for a person with a large file on a slow line. 128 KiB/s and 10 min if this is
    /// not called; a `total` of zero makes no exceptions.
    ///
    /// Bytes sent ahead of the rate count for 10 s at most.
    #[must_use]
    pub fn good_rate(self, rate: u64, total: Duration) -> Self {
        self.with(|settings| settings.bounds.good = Some(Good { rate, total }))
    }

    /// How many connections linger at once. When that limit is reached, a new connection
    /// [evicts](Self#who-is-evicted) another.
    ///
    /// By default a quarter of the process's descriptors (the soft limit, when this handle
    /// is made), but 1024 at most. 0 lets none linger.
    #[must_use]
    pub fn at_once(self, connections: usize) -> Self {
        self.with(|settings| settings.at_once = connections)
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
    /// use tower_bodyguard::Linger;
    ///
    /// const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    /// let linger = Linger::new()
    ///     .peer_key(|addr| Some(addr.ip()).filter(|ip| *ip != PROXY));
    /// ```
    #[must_use]
    pub fn peer_key<F, K>(self, key: F) -> Self
    where
        F: Fn(SocketAddr) -> Option<K> + Send + Sync + 'static,
        K: Hash,
    {
        self.with(|settings| settings.peer_key = PeerKey::new(key))
    }

    /// Who is told of each [`Event`](crate::Event) of the hook and of delivery. The guard
    /// has its [own](crate::BodyGuardLayer::observer).
    #[must_use]
    pub fn observer(self, observer: Observer) -> Self {
        self.with(|settings| settings.observer = observer)
    }

    /// What a kept connection is worth, where [delivery](crate::Delivery) is joined.
    #[must_use]
    pub fn drain(self, drain: Drain) -> Self {
        self.with(|settings| settings.drain = drain)
    }

    /// Sets how long a response may make no progress while its client sends, where
    /// [delivery](crate::Delivery) is joined. 30 s if this is not called.
    ///
    /// A client that sends everything before it reads stops a response that is larger than the
    /// socket's buffers, so what it sends is discarded meanwhile. When the response has made no
    /// progress for this time and the client still sends, the connection is closed. A response
    /// that the client reads is never cut, nor is one whose client is silent.
    ///
    /// Progress is what the kernel takes. For TCP on Linux that is any room in the socket's
    /// buffer; elsewhere a part of the buffer, a third of it or so, has to become free in this
    /// time.
    #[must_use]
    pub fn stall_timeout(self, timeout: Duration) -> Self {
        self.with(|settings| settings.stall_timeout = timeout)
    }

    /// How long a stream of HTTP/2 is read on after an early answer, where
    /// [delivery](crate::Delivery) is joined.
    #[must_use]
    pub fn stream_linger(self, stream_linger: StreamLinger) -> Self {
        self.with(|settings| settings.stream_linger = stream_linger)
    }

    /// How long bodies are read on after the signal that [`on`](Self::on) waits for, 10 s
    /// if this is not called. It bounds how long refused uploads hold up a server's
    /// graceful shutdown.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        self.with(|settings| settings.grace = grace)
    }

    /// Returns a handle for one of several servers that stop at different times.
    ///
    /// A child shares its parent's settings and slots. It has a shutdown of its own: the signal
    /// for [`on`](Self::on), and [`shutdown`](Self::shutdown), leave the parent and its other
    /// children alone. Its counters are of its own connections. What is done to the parent is
    /// done to its children: its shutdown ends theirs, and its counters include theirs.
    ///
    /// ```no_run
    /// # #[cfg(feature = "axum")]
    /// # async fn run(
    /// #     public: tokio::net::TcpListener, admin: tokio::net::TcpListener, app: axum::Router,
    /// #     stop: tokio::sync::oneshot::Receiver<()>,
    /// # ) -> std::io::Result<()> {
    /// use std::time::Duration;
    /// use tower_bodyguard::Linger;
    ///
    /// let linger = Linger::new().at_once(4096);
    /// tokio::spawn(axum::serve(linger.child().listener(admin), app.clone()).into_future());
    ///
    /// // This server stops, and the other one goes on.
    /// let server = linger.child();
    /// axum::serve(server.listener(public), app).with_graceful_shutdown(server.on(stop)).await?;
    /// server.shutdown(Duration::from_secs(10)).await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn child(&self) -> Self {
        Self::of(
            self.0.settings.clone(),
            Some(self.clone()),
            self.delivery().child(),
            self.0.tasks.child(),
        )
    }

    /// The counters as they stand.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.counters.stats(self.delivery().reading())
    }

    /// Waits until no connection lingers.
    ///
    /// [`shutdown`](Self::shutdown) does so with a bound.
    ///
    /// # Cancel safety
    ///
    /// It only waits; it may be dropped and called again.
    pub async fn closed(&self) {
        loop {
            let none_closing = self.0.none_closing.notified();
            if self.0.closing.load(Ordering::Acquire) == 0 {
                return;
            }
            none_closing.await;
        }
    }

    /// Keeps [`closed`](Self::closed) waiting until it is dropped.
    pub(super) fn permit(&self) -> Permit {
        for linger in self.family() {
            linger.0.closing.fetch_add(1, Ordering::AcqRel);
        }
        Permit(self.clone())
    }

    /// Yields this handle, and those that it is a child of.
    fn family(&self) -> impl Iterator<Item = &Self> {
        iter::successors(Some(self), |linger| linger.0.parent.as_ref())
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.0.settings.bounds
    }

    /// Whose slots a connection takes.
    pub(super) fn peer_of<T: 'static>(&self, socket: &T) -> Peer {
        self.0.settings.peer_key.of(socket)
    }

    /// How long a response may make no progress while its client sends.
    pub(super) fn stall_timeout_now(&self) -> Duration {
        let timeout = self.0.settings.stall_timeout;
        match self.delivery().tasks().is_over() {
            true => STALL_TIMEOUT_AT_SHUTDOWN.min(timeout),
            false => timeout,
        }
    }

    /// What delivery by this handle shares.
    pub(crate) fn delivery(&self) -> &Arc<delivery::Shared> {
        &self.0.delivery
    }

    /// The lingers that run.
    pub(super) fn tasks(&self) -> &Arc<Tasks> {
        &self.0.tasks
    }

    /// A new connection has taken a descriptor. If few are left, a lingering connection gives
    /// one back.
    pub(super) fn make_room_for<T: 'static>(&self, socket: &T) {
        let descriptors = self.0.settings.descriptors;
        if self.0.tasks.taken() > 0 && descriptors.are_scarce_for(socket) {
            self.evict();
        }
    }

    /// Ends a lingering connection; `false` if there is none.
    pub(crate) fn evict(&self) -> bool {
        self.0.tasks.evict()
    }

    /// Whether an evicted connection has still to give its descriptor back.
    #[cfg(feature = "axum")]
    pub(crate) fn is_evicting(&self) -> bool {
        self.0.tasks.is_evicting()
    }

    /// Waits until a connection lingers.
    #[cfg(feature = "axum")]
    pub(crate) async fn lingering_any(&self) {
        self.0.tasks.taken_any().await;
    }

    /// Fails at once, rather than with the first response that is to be delivered.
    #[track_caller]
    pub(crate) fn check_timers(&self) {
        // Without a runtime nothing lingers, and another may follow.
        if self.0.has_timers.get().is_none() && Handle::try_current().is_ok() {
            // Panics, and says what to do, where the runtime was built without them.
            drop(sleep(Duration::ZERO));
            let _ = self.0.has_timers.set(());
        }
    }

    pub(crate) fn grace_setting(&self) -> Duration {
        self.0.settings.grace
    }

    /// The counters when the first signal or shutdown came; now, if this is it.
    pub(super) fn stats_before_shutdown(&self) -> Stats {
        *self.0.before_shutdown.get_or_init(|| self.stats())
    }

    pub(super) fn started(&self) {
        self.family().for_each(|linger| linger.0.counters.started());
    }

    pub(super) fn ended(&self, end: Ended, discarding: &Discarding) {
        for linger in self.family() {
            linger.0.counters.ended(end, discarding.discarded());
        }
        let discarded = Discarded::new(discarding, end);
        self.0
            .settings
            .observer
            .observe(&Event::Lingered(discarded));
    }

    fn with(self, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.0.settings.clone();
        set(&mut settings);
        Self::with_settings(settings)
    }

    fn with_settings(settings: Settings) -> Self {
        let delivery = delivery::Shared::new(
            settings.drain,
            settings.stall_timeout,
            settings.stream_linger,
            settings.observer.clone(),
        );
        let tasks = Tasks::new(settings.at_once);
        Self::of(settings, None, delivery, tasks)
    }

    fn of(
        settings: Settings,
        parent: Option<Self>,
        delivery: Arc<delivery::Shared>,
        tasks: Tasks,
    ) -> Self {
        Self(Arc::new(Shared {
            settings,
            parent,
            delivery,
            tasks: Arc::new(tasks),
            counters: Counters::default(),
            before_shutdown: OnceLock::new(),
            has_timers: OnceLock::new(),
            closing: AtomicUsize::new(0),
            none_closing: Notify::new(),
        }))
    }
}

/// A connection that is closing.
pub(super) struct Permit(Linger);

impl Permit {
    pub(super) fn linger(&self) -> &Linger {
        &self.0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for Linger(shared) in self.0.family() {
            if shared.closing.fetch_sub(1, Ordering::AcqRel) == 1 {
                shared.none_closing.notify_waiters();
            }
        }
    }
}

impl Default for Linger {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Linger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linger")
            .field("bounds", &self.0.settings.bounds)
            .field("at_once", &self.0.settings.at_once)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
