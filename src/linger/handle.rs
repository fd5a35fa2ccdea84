use std::{
    fmt, iter,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, time::sleep};

use super::{
    config::LingerConfig,
    fd_limit::FdLimit,
    misuse::Misuse,
    stats::{LingerCounters, Stats},
};
use crate::{
    budget::{Bounds, Discarding, STALL_TIMEOUT_AT_SHUTDOWN, StopReason},
    delivery,
    observe::{Discarded, Event},
    shared::peer::Peer,
    tasks::Tasks,
};

/// A handle for lingering closes: its settings, counters and tasks. Clones share everything.
///
/// # The problem
///
/// A server that responds early and closes, as hyper does, resets the connection of a client that
/// still sends. The person reads "connection reset" instead of the response. Behind a proxy it is a
/// 502.
///
/// # How it works
///
/// [`LingerIo`](super::LingerIo) wraps a socket. When the server shuts the connection down, it
/// flushes everything that was written and closes the sending side. When the server drops the
/// socket, a small task takes it over and discards what the client still sends. The task closes the
/// socket when the client has closed its side, or at the first limit of the [`LingerConfig`].
///
/// [Combined](Self::wrap) with delivery, the sending side stays open until the client has sent the
/// body of its request or pauses: see [`LingerConfig::half_close_timeout`].
///
/// # Eviction
///
/// A *client* is an IP address, or for IPv6 a network of 64 bits: see [`LingerConfig::peer_key`].
///
/// If a client has more than half of all lingering connections, the first candidate is its slowest
/// connection. Otherwise it is the connection with the lowest rate, divided by the number of
/// connections that its client has.
///
/// - When all slots are taken, a new connection evicts the first candidate.
/// - While more than half of the slots are taken, a new connection evicts the first candidate if
///   its rate is below 64 B/s.
/// - When few file descriptors are left, a new connection evicts the first candidate. That is so if
///   the new file descriptor is among the last 32 below the process limit. For a limit below 256,
///   the last eighth counts instead.
///
/// A rate is an exponentially decaying mean with a time constant of 1 s, and counts up to 24 KiB/s.
/// A new connection begins at 1 KiB/s, so it falls below 64 B/s after 2.8 s of silence.
///
/// # Example
///
/// ```no_run
/// # #[cfg(feature = "axum")] {
/// use std::time::Duration;
/// use tower_bodyguard::{Linger, LingerConfig};
///
/// # async fn run(app: axum::Router) -> std::io::Result<()> {
/// let linger = Linger::new(LingerConfig::new().timeout(Duration::from_secs(120)));
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
/// axum::serve(linger.listener(listener), app).await
/// # }
/// # }
/// ```
///
/// # Caveats
///
/// - The process's limit of file descriptors is read when the handle is created. A limit that is
///   raised later is not noticed.
/// - Lingering needs a tokio runtime with timers enabled. A connection that is dropped outside a
///   runtime is closed without a linger. So is each connection that still lingers when its runtime
///   ends: see [`shutdown`](Self::shutdown).
/// - A client that sends before it reads blocks a long response permanently, because nothing reads
///   what it sends. The socket wrapper alone cannot know that the service will not read it.
///   [Combined](Self::wrap) with delivery, it knows.
#[derive(Clone)]
pub struct Linger(Arc<LingerInner>);

struct LingerInner {
    config: LingerConfig,
    fd_limit: FdLimit,
    /// The handle of which this one is a [child](Linger::child).
    parent: Option<Linger>,
    delivery: Arc<delivery::DeliveryHandle>,
    tasks: Arc<Tasks>,
    counters: LingerCounters,
    before_shutdown: OnceLock<Stats>,
    misuse: Misuse,
    /// Set once a runtime with timers was seen.
    has_timers: OnceLock<()>,
    /// How many connections are closing: from the half-close to the end of the linger.
    closing: AtomicUsize,
    none_closing: Notify,
}

impl Linger {
    /// Creates a handle with these settings.
    ///
    /// Reads the process's soft limit of file descriptors, on Linux from `/proc/self/limits`. The
    /// default of [`LingerConfig::max_connections`] depends on it, and so do the evictions when few
    /// file descriptors are left. Raise the limit before you call this.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bodyguard::{Linger, LingerConfig};
    ///
    /// let linger = Linger::new(LingerConfig::new().timeout(Duration::from_secs(120)));
    /// ```
    #[must_use]
    pub fn new(config: LingerConfig) -> Self {
        let fd_limit = FdLimit::read();
        let max_connections = config.max_connections;
        let max_connections = max_connections.unwrap_or_else(|| fd_limit.default_max_connections());
        let streams = delivery::StreamLinger::of(config.bounds, max_connections);
        let delivery = config.delivery.clone().http3_by_default(streams);
        let delivery = delivery::DeliveryHandle::new(&delivery);
        let tasks = Tasks::new(max_connections);
        Self::of(config, fd_limit, None, delivery, tasks)
    }

    /// Returns a handle for one of several servers that stop at different times.
    ///
    /// A child shares its parent's settings and slots, but has its own shutdown. The signal for
    /// [`on`](Self::on), and [`shutdown`](Self::shutdown), do not affect the parent and its other
    /// children. The child counts only its own connections. The parent's shutdown ends its
    /// children, and its counters include theirs.
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
    /// let linger = Linger::default();
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
        self.used();
        Self::of(
            self.0.config.clone(),
            self.0.fd_limit,
            Some(self.clone()),
            self.delivery().child(),
            self.0.tasks.child(),
        )
    }

    /// Returns the current counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.counters.stats(self.delivery().reading())
    }

    /// Records with the `metrics` facade what lingers and drains now (feature `metrics`): the
    /// gauges `bodyguard_lingering` (connections) and `bodyguard_draining` (request bodies). The
    /// label `linger` has the name.
    ///
    /// Call this before the metrics are read: in the handler of `/metrics`, or every few seconds if
    /// the recorder serves them by itself.
    #[cfg(feature = "metrics")]
    pub fn record_gauges(&self, name: &'static str) {
        use metrics::{describe_gauge, gauge};

        let stats = self.stats();
        let lingering = "bodyguard_lingering";
        describe_gauge!(lingering, "Connections that linger now.");
        gauge!(lingering, "linger" => name).set(stats.lingering() as f64);
        let draining = "bodyguard_draining";
        describe_gauge!(draining, "Request bodies that are drained now.");
        gauge!(draining, "linger" => name).set(stats.reading as f64);
    }

    /// Waits until no connection lingers.
    ///
    /// [`shutdown`](Self::shutdown) does the same with a time limit.
    ///
    /// # Cancel safety
    ///
    /// The future only waits. You may drop it and call this again.
    pub async fn closed(&self) {
        loop {
            let none_closing = self.0.none_closing.notified();
            if self.0.closing.load(Ordering::Acquire) == 0 {
                return;
            }
            none_closing.await;
        }
    }

    /// Returns a permit that keeps [`closed`](Self::closed) waiting until it is dropped.
    pub(super) fn closing_guard(&self) -> ClosingGuard {
        for linger in self.family() {
            linger.0.closing.fetch_add(1, Ordering::AcqRel);
        }
        ClosingGuard(self.clone())
    }

    /// Yields this handle, its parent, and so on.
    fn family(&self) -> impl Iterator<Item = &Self> {
        iter::successors(Some(self), |linger| linger.0.parent.as_ref())
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.0.config.bounds
    }

    /// Returns for how much silence a half-close waits at most. `None` if it never waits.
    pub(super) fn half_close_timeout(&self) -> Option<Duration> {
        let timeout = self.0.config.half_close_timeout;
        let timeout = timeout.min(self.bounds().idle / 2);
        Some(timeout).filter(|timeout| !timeout.is_zero())
    }

    /// Returns whether a half-close must not wait for long: more than half of the slots are taken,
    /// or the server shuts down.
    pub(super) fn is_in_a_hurry(&self) -> bool {
        let tasks = &self.0.tasks;
        let shuts_down = |linger: &Self| linger.0.before_shutdown.get().is_some();
        tasks.taken() > tasks.most() / 2 || self.family().any(shuts_down)
    }

    /// Returns the client whose slots a connection takes.
    pub(super) fn peer_of<T: 'static>(&self, socket: &T) -> Peer {
        self.0.config.peer_key.of(socket)
    }

    /// Returns the client of a connection that was accepted from this address.
    pub(crate) fn peer_at(&self, addr: SocketAddr) -> Peer {
        self.0.config.peer_key.of_addr(addr)
    }

    /// Returns how long a response may make no progress while its client sends.
    pub(super) fn stall_timeout_now(&self) -> Duration {
        let timeout = self.0.config.delivery.stall_timeout;
        match self.delivery().tasks().is_over() {
            true => STALL_TIMEOUT_AT_SHUTDOWN.min(timeout),
            false => timeout,
        }
    }

    /// Returns the state that delivery shares under this handle.
    pub(crate) fn delivery(&self) -> &Arc<delivery::DeliveryHandle> {
        &self.0.delivery
    }

    /// Returns the tasks of lingering connections.
    pub(super) fn tasks(&self) -> &Arc<Tasks> {
        &self.0.tasks
    }

    /// Evicts a lingering connection if few file descriptors are left after a new connection took
    /// one.
    pub(super) fn make_room_for<T: 'static>(&self, socket: &T) {
        let fd_limit = self.0.fd_limit;
        if self.0.tasks.taken() > 0 && fd_limit.are_scarce_for(socket) {
            self.evict();
        }
    }

    /// Evicts a lingering connection. Returns `false` if there is none.
    pub(crate) fn evict(&self) -> bool {
        self.0.tasks.evict()
    }

    /// Returns whether an evicted connection has not released its file descriptor yet.
    #[cfg(feature = "axum")]
    pub(crate) fn is_evicting(&self) -> bool {
        self.0.tasks.is_evicting()
    }

    /// Waits until a connection lingers.
    #[cfg(feature = "axum")]
    pub(crate) async fn lingering_any(&self) {
        self.0.tasks.taken_any().await;
    }

    /// Records that a server uses the handle.
    pub(crate) fn used(&self) {
        self.0.misuse.used();
    }

    /// Warns if sockets of this type should not be wrapped.
    pub(super) fn check_socket<T>(&self) {
        self.0.misuse.check::<T>();
    }

    /// Panics immediately if the runtime has no timers, and not only when a response needs one.
    #[track_caller]
    pub(crate) fn check_timers(&self) {
        // Without a runtime nothing lingers, and a later call may be in one.
        if self.0.has_timers.get().is_none() && Handle::try_current().is_ok() {
            // Panics, and says what to do, if the runtime was built without timers.
            drop(sleep(Duration::ZERO));
            let _ = self.0.has_timers.set(());
        }
    }

    pub(crate) fn shutdown_timeout(&self) -> Duration {
        self.0.config.shutdown_timeout
    }

    /// Returns the counters at the first signal or shutdown, which may be this one.
    fn stats_before_shutdown(&self) -> Stats {
        *self.0.before_shutdown.get_or_init(|| self.stats())
    }

    /// Records that a shutdown of the handle begins, and returns the counters before it.
    pub(super) fn shuts_down(&self) -> Stats {
        self.0.misuse.shuts_down();
        self.stats_before_shutdown()
    }

    /// Records that a lingering connection was dropped before its end.
    pub(super) fn dropped(&self) {
        if !self.tasks().is_over() {
            let first = self.family().last().unwrap_or(self);
            first.0.misuse.dropped();
        }
    }

    pub(super) fn started(&self) {
        self.family().for_each(|linger| linger.0.counters.started());
    }

    pub(super) fn ended(&self, end: StopReason, discarding: &Discarding, peer: &Peer) {
        for linger in self.family() {
            linger.0.counters.ended(end, discarding.discarded());
        }
        let observer = &self.0.config.delivery.observer;
        observer.observe_with(|| Event::Lingered(Discarded::new(discarding, end, peer.addr())));
    }

    fn of(
        config: LingerConfig,
        fd_limit: FdLimit,
        parent: Option<Self>,
        delivery: Arc<delivery::DeliveryHandle>,
        tasks: Tasks,
    ) -> Self {
        Self(Arc::new(LingerInner {
            config,
            fd_limit,
            parent,
            delivery,
            tasks: Arc::new(tasks),
            counters: LingerCounters::default(),
            before_shutdown: OnceLock::new(),
            misuse: Misuse::default(),
            has_timers: OnceLock::new(),
            closing: AtomicUsize::new(0),
            none_closing: Notify::new(),
        }))
    }
}

/// The permit of a closing connection, which [`Linger::closed`] waits for.
pub(super) struct ClosingGuard(Linger);

impl ClosingGuard {
    pub(super) fn linger(&self) -> &Linger {
        &self.0
    }
}

impl Drop for ClosingGuard {
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
        Self::new(LingerConfig::default())
    }
}

impl fmt::Debug for Linger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linger")
            .field("config", &self.0.config)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
