use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    bounds::{Bounds, End},
    delivery::{Drain, StreamLinger, Streams},
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
/// | [`bytes`](Self::bytes) | none | discarded in all |
///
/// The first two are nginx's `lingering_timeout` and `lingering_time`. A client
/// that sends longer than that loses the answer as it would without the hook.
///
/// # Example
///
/// ```no_run
/// # #[cfg(feature = "axum")] {
/// use std::time::Duration;
/// use tower_bodyguard::{Linger, LingerExt};
///
/// # async fn run(app: axum::Router) -> std::io::Result<()> {
/// let linger = Linger::new().total(Duration::from_secs(120));
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
/// axum::serve(listener.linger_with(&linger), app).await
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
///   lingers when its runtime ends: see [`closed`](Self::closed) for a graceful
///   shutdown.
/// - A client that sends before it reads stops a long answer for good, since nobody
///   reads what it sends. The hook alone cannot know that nobody will; [joined](Self::join) with
///   delivery it does.
#[derive(Clone)]
pub struct Linger(Arc<Shared>);

struct Shared {
    settings: Settings,
    streams: Arc<Streams>,
    counters: Counters,
    /// Connections that are closing: from the half-close to the end of the linger.
    closing: AtomicUsize,
    none_closing: Notify,
}

#[derive(Clone, Copy)]
struct Settings {
    bounds: Bounds,
    drain: Drain,
    stream_linger: StreamLinger,
}

#[derive(Default)]
struct Counters {
    started: AtomicU64,
    delivered: AtomicU64,
    cut: AtomicU64,
    discarded: AtomicU64,
}

/// What a [`Linger`] has done so far.
///
/// ```
/// use tower_bodyguard::Linger;
///
/// let linger = Linger::new();
/// let stats = linger.stats();
/// assert_eq!((stats.started, stats.lingering()), (0, 0));
/// ```
///
/// The numbers are read one after the other: while connections come and go, they
/// may be apart by those under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that were lingered for. One whose client has closed by the
    /// time the server lets go is none.
    pub started: u64,
    /// Of these, how many ended because the client closed: it had all the time it
    /// wanted to read its answer, or wanted none.
    pub delivered: u64,
    /// Of these, how many ended at a bound, or because the client reset.
    pub cut: u64,
    /// Bytes that the lingers that have ended have thrown away.
    pub discarded_bytes: u64,
}

impl Stats {
    /// Connections that linger now.
    #[must_use]
    pub fn lingering(&self) -> u64 {
        self.started.saturating_sub(self.delivered + self.cut)
    }
}

impl Linger {
    /// With the default bounds.
    #[must_use]
    pub fn new() -> Self {
        Self::with_settings(Settings {
            bounds: Bounds {
                idle: Duration::from_secs(5),
                total: Duration::from_secs(30),
                bytes: None,
            },
            drain: Drain::new(),
            stream_linger: StreamLinger::new(),
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

    /// What a kept connection is worth, where [delivery](crate::Delivery) is joined.
    #[must_use]
    pub fn drain(self, drain: Drain) -> Self {
        self.with(|settings| settings.drain = drain)
    }

    /// How long a stream of HTTP/2 is read on after an early answer, where
    /// [delivery](crate::Delivery) is joined.
    #[must_use]
    pub fn stream_linger(self, stream_linger: StreamLinger) -> Self {
        self.with(|settings| settings.stream_linger = stream_linger)
    }

    /// The counters as they stand.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counters = &self.0.counters;
        // Ends before starts, so that nothing ends that never started.
        let delivered = counters.delivered.load(Ordering::Acquire);
        let cut = counters.cut.load(Ordering::Acquire);
        Stats {
            started: counters.started.load(Ordering::Acquire),
            delivered,
            cut,
            discarded_bytes: counters.discarded.load(Ordering::Relaxed),
        }
    }

    /// Waits until no connection lingers.
    ///
    /// After a server's graceful shutdown has returned, connections may linger still,
    /// and the end of the runtime cuts them: give them some time first.
    ///
    /// ```no_run
    /// # #[cfg(feature = "axum")]
    /// # async fn run(
    /// #     listener: tokio::net::TcpListener,
    /// #     app: axum::Router,
    /// #     signal: impl Future<Output = ()> + Send + 'static,
    /// # ) -> std::io::Result<()> {
    /// use std::time::Duration;
    /// use tokio::time::timeout;
    /// use tower_bodyguard::Linger;
    ///
    /// let linger = Linger::new();
    /// linger.serve(listener, app).with_graceful_shutdown(signal).await?;
    /// if timeout(Duration::from_secs(10), linger.closed()).await.is_err() {
    ///     eprintln!("cutting {} clients off", linger.stats().lingering());
    /// }
    /// # Ok(())
    /// # }
    /// ```
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
        self.0.closing.fetch_add(1, Ordering::AcqRel);
        Permit(self.clone())
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.0.settings.bounds
    }

    pub(crate) fn drain_settings(&self) -> Drain {
        self.0.settings.drain
    }

    pub(crate) fn streams(&self) -> &Arc<Streams> {
        &self.0.streams
    }

    pub(super) fn started(&self) {
        self.0.counters.started.fetch_add(1, Ordering::Release);
    }

    pub(super) fn ended(&self, end: End, discarded: u64) {
        let counters = &self.0.counters;
        counters.discarded.fetch_add(discarded, Ordering::Relaxed);
        let ends = match end {
            End::Complete => &counters.delivered,
            End::Reset | End::Idle | End::Total | End::Bytes | End::Dropped => &counters.cut,
        };
        ends.fetch_add(1, Ordering::Release);
    }

    fn with(self, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.0.settings;
        set(&mut settings);
        Self::with_settings(settings)
    }

    fn with_settings(settings: Settings) -> Self {
        Self(Arc::new(Shared {
            settings,
            streams: Streams::new(settings.stream_linger),
            counters: Counters::default(),
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
        let shared = &self.0.0;
        if shared.closing.fetch_sub(1, Ordering::AcqRel) == 1 {
            shared.none_closing.notify_waiters();
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
        let Bounds { idle, total, bytes } = self.bounds();
        f.debug_struct("Linger")
            .field("idle", idle)
            .field("total", total)
            .field("bytes", bytes)
            .field("stats", &self.stats())
            .finish()
    }
}
