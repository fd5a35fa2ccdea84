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
    stats::{Counters, Stats},
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
/// A server that responds early and closes, as hyper does, resets the connection under a client
/// that still sends: the person reads "connection reset" instead of the response. Behind a proxy
/// it is a 502.
///
/// # What it does
///
/// [`LingerIo`](super::LingerIo) wraps a socket. When the server shuts the connection down, it
/// flushes everything that was written and closes the sending side. When the server drops the
/// socket, a small task takes it over, discards what the client still sends, and closes when the
/// client has closed its side, or at the first limit of the [`LingerConfig`].
///
/// # Who is evicted
///
/// A *client* is an address, or of IPv6 a network of 64 bits; see
/// [`LingerConfig::peer_key`].
///
/// The first to go is the slowest connection of a client that has more than half of all lingering
/// connections. If no client has, it is the connection with the lowest rate, divided by the number
/// of connections that its client has.
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
/// - The process's limit of file descriptors is read when the handle is made. A limit that is
///   raised later is not noticed.
/// - Lingering needs a tokio runtime with timers enabled. A connection that is
///   dropped outside a runtime is closed plainly, and so is each one that still
///   lingers when its runtime ends: see [`shutdown`](Self::shutdown).
/// - A client that sends before it reads stops a long answer for good, since nobody
///   reads what it sends. The hook alone cannot know that nobody will; [joined](Self::join) with
///   delivery it does.
#[derive(Clone)]
pub struct Linger(Arc<Shared>);

struct Shared {
    config: LingerConfig,
    fd_limit: FdLimit,
    /// The handle that this one is a [child](Linger::child) of.
    parent: Option<Linger>,
    delivery: Arc<delivery::State>,
    tasks: Arc<Tasks>,
    counters: Counters,
    before_shutdown: OnceLock<Stats>,
    /// The runtime has been seen to have them.
    has_timers: OnceLock<()>,
    /// Connections that are closing: from the half-close to the end of the linger.
    closing: AtomicUsize,
    none_closing: Notify,
}

impl Linger {
    /// Makes a handle with these settings.
    ///
    /// Reads the process's soft limit of file descriptors, on Linux from `/proc/self/limits`.
    /// The default of [`LingerConfig::max_connections`] depends on it, and so do the evictions
    /// when file descriptors are about to run out. Raise the limit before this is called.
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
        let delivery = delivery::State::new(&config.delivery);
        let tasks = Tasks::new(max_connections);
        Self::of(config, fd_limit, None, delivery, tasks)
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
        Self::of(
            self.0.config.clone(),
            self.0.fd_limit,
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
        &self.0.config.bounds
    }

    /// Whose slots a connection takes.
    pub(super) fn peer_of<T: 'static>(&self, socket: &T) -> Peer {
        self.0.config.peer_key.of(socket)
    }

    /// As [`peer_of`](Self::peer_of), for a connection that was accepted from this address.
    pub(super) fn peer_at(&self, addr: SocketAddr) -> Peer {
        self.0.config.peer_key.of_addr(addr)
    }

    /// How long a response may make no progress while its client sends.
    pub(super) fn stall_timeout_now(&self) -> Duration {
        let timeout = self.0.config.delivery.stall_timeout;
        match self.delivery().tasks().is_over() {
            true => STALL_TIMEOUT_AT_SHUTDOWN.min(timeout),
            false => timeout,
        }
    }

    /// What delivery by this handle shares.
    pub(crate) fn delivery(&self) -> &Arc<delivery::State> {
        &self.0.delivery
    }

    /// The lingers that run.
    pub(super) fn tasks(&self) -> &Arc<Tasks> {
        &self.0.tasks
    }

    /// A new connection has taken a descriptor. If few are left, a lingering connection gives
    /// one back.
    pub(super) fn make_room_for<T: 'static>(&self, socket: &T) {
        let fd_limit = self.0.fd_limit;
        if self.0.tasks.taken() > 0 && fd_limit.are_scarce_for(socket) {
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

    pub(crate) fn shutdown_timeout(&self) -> Duration {
        self.0.config.shutdown_timeout
    }

    /// The counters when the first signal or shutdown came; now, if this is it.
    pub(super) fn stats_before_shutdown(&self) -> Stats {
        *self.0.before_shutdown.get_or_init(|| self.stats())
    }

    pub(super) fn started(&self) {
        self.family().for_each(|linger| linger.0.counters.started());
    }

    pub(super) fn ended(&self, end: StopReason, discarding: &Discarding) {
        for linger in self.family() {
            linger.0.counters.ended(end, discarding.discarded());
        }
        let discarded = Discarded::new(discarding, end);
        self.0
            .config
            .delivery
            .observer
            .observe(&Event::Lingered(discarded));
    }

    fn of(
        config: LingerConfig,
        fd_limit: FdLimit,
        parent: Option<Self>,
        delivery: Arc<delivery::State>,
        tasks: Tasks,
    ) -> Self {
        Self(Arc::new(Shared {
            config,
            fd_limit,
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
