use std::{
    convert::Infallible,
    fmt,
    future::{Future, IntoFuture, Pending, pending, poll_fn},
    io,
    marker::PhantomData,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{extract::Request, response::Response, serve::Listener};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower_service::Service;

use super::{
    IncomingStream,
    accept::{accept, peer_addr},
    connection::ConnectionService,
    head_timeout::{EarlierTimer, HeadTimeout},
    router::{connection_of, share_routes},
};
use crate::linger::{Linger, LingerIo, assert_not_wrapped};

/// Serves an app so that each client can read an early response.
///
/// It replaces [`axum::serve`](fn@axum::serve) and takes the same arguments: a `Router`, a
/// `MethodRouter`, a handler, and the values that `into_make_service` and
/// `into_make_service_with_connect_info` return.
///
/// ```no_run
/// use axum::{Router, routing::post};
/// use tower_bodyguard::{BodyGuardLayer, MIB};
///
/// # async fn run() -> std::io::Result<()> {
/// let app = Router::new()
///     .route("/", post(|body: String| async { body }))
///     .layer(BodyGuardLayer::axum(4 * MIB));
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
/// tower_bodyguard::axum::serve(listener, app).await
/// # }
/// ```
///
/// # Differences from `axum::serve`
///
/// - On each connection, [delivery](crate::Delivery) and the [socket wrapper](LingerIo) are
///   combined. A small unread body is drained and the connection is kept. Otherwise the connection
///   closes in a way that lets the client read the response first.
/// - The routes of a `Router` are made once, as by `Router::into_make_service`, and not again for
///   each connection. A layer of a route that counts, such as tower's `ConcurrencyLimitLayer`, then
///   counts the requests of all connections. If a route has a limit layer, all routes are made for
///   each connection.
/// - The first request of a connection has a [timeout](Serve::header_timeout) of 30 s.
/// - [`Serve::http`] changes hyper's settings, and [`Serve::max_connections`] limits the
///   connections.
/// - A graceful shutdown also waits for lingering connections, up to a time limit.
/// - When file descriptors run out, a lingering connection is closed for each new connection.
///   `axum::serve` waits for a second.
/// - A custom [`Connected`](axum::extract::connect_info::Connected) is implemented for this crate's
///   [`IncomingStream`].
/// - Extended CONNECT, for `WebSocket` over HTTP/2, needs the feature `http2` of this crate as well
///   as axum's.
///
/// # Cancel safety
///
/// When the future is dropped, the listener is closed. Connections continue, including lingering
/// ones.
///
/// # Panics
///
/// Panics if the listener's sockets are [`LingerIo`] already, as those of [`Linger::listener`] are,
/// because each connection would linger twice. Panics in a tokio runtime without timers. If this is
/// called outside of a runtime, the future panics instead.
#[track_caller]
pub fn serve<L, M, S>(listener: L, make_service: M) -> Serve<L, M, S>
where
    L: Listener,
    M: for<'a> Service<IncomingStream<'a, L>, Error = Infallible, Response = S>,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    assert_not_wrapped::<L::Io>();
    let linger = Linger::default();
    linger.check_timers();
    let mut http = auto::Builder::new(TokioExecutor::new());
    // hyper's timeout would also end idle connections.
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None);
    // RFC 8441: WebSockets over HTTP/2.
    #[cfg(feature = "http2")]
    http.http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol();
    Serve {
        listener,
        make_service,
        linger,
        http,
        header_timeout: Some(HEADER_TIMEOUT),
        max_connections: None,
        signal: pending(),
        service: PhantomData,
    }
}

/// The same as hyper's default (`server::conn::http1::Builder`).
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// The server that [`serve`] returns. Await it to run it.
#[must_use = "a server does nothing unless it is awaited"]
pub struct Serve<L, M, S, F = Pending<()>> {
    listener: L,
    make_service: M,
    linger: Linger,
    http: auto::Builder<TokioExecutor>,
    header_timeout: Option<Duration>,
    max_connections: Option<usize>,
    signal: F,
    service: PhantomData<fn() -> S>,
}

impl<L: Listener, M, S, F> Serve<L, M, S, F> {
    /// Sets the handle whose settings, slots and counters the server uses. Without this, the server
    /// has a handle of its own with the defaults of [`Linger`].
    ///
    /// Servers can share a handle. Each server uses a [child](Linger::child) of it, so that it can
    /// shut down separately.
    pub fn with_linger(mut self, linger: &Linger) -> Self {
        self.linger = linger.clone();
        self
    }

    /// Limits how long a client may take to send its first request head, or over HTTP/2 the
    /// connection's preface. `None` sets no limit. The default is 30 s, as hyper's is.
    ///
    /// As in axum, a kept connection has no timeout. Proxies keep theirs for a minute and more, and
    /// a server that closes first costs them a request. hyper's own `header_read_timeout` limits
    /// kept connections, too. [`http`](Self::http) can set it, and the timer that it needs is set
    /// already.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn run(listener: tokio::net::TcpListener, app: axum::Router) -> std::io::Result<()> {
    /// tower_bodyguard::axum::serve(listener, app)
    ///     .header_timeout(Duration::from_secs(10))
    ///     .await
    /// # }
    /// ```
    pub fn header_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.header_timeout = timeout.into();
        self
    }

    /// Changes hyper's settings.
    ///
    /// ```no_run
    /// # async fn run(listener: tokio::net::TcpListener, app: axum::Router) -> std::io::Result<()> {
    /// tower_bodyguard::axum::serve(listener, app)
    ///     .http(|http| {
    ///         http.http1().max_buf_size(64 * 1024);
    ///     })
    ///     .await
    /// # }
    /// ```
    pub fn http(mut self, configure: impl FnOnce(&mut auto::Builder<TokioExecutor>)) -> Self {
        configure(&mut self.http);
        self
    }

    /// Limits how many connections are served concurrently. The default is `None`. When that limit
    /// is reached, the server accepts the next connection after another has ended.
    ///
    /// This does not count lingering connections.
    /// [`LingerConfig::max_connections`](crate::LingerConfig::max_connections) limits those.
    ///
    /// # Panics
    ///
    /// Panics at 0, because the server could serve no connection.
    #[track_caller]
    pub fn max_connections(mut self, max_connections: impl Into<Option<usize>>) -> Self {
        self.max_connections = max_connections.into();
        assert_ne!(self.max_connections, Some(0), "a server needs a connection");
        self
    }

    /// Shuts the server down when `signal` completes. The server's future completes when the
    /// shutdown is done.
    ///
    /// The server stops accepting, and each connection ends after its request. Bodies are drained
    /// for at most the [shutdown timeout](crate::LingerConfig::shutdown_timeout). Then the server
    /// waits for lingering connections for as long again, and closes those that are left.
    ///
    /// A slow handler, or a client that sends or reads slowly, is not limited here. To limit the
    /// shutdown, drop the future some time after the signal, as
    /// [the recipe for a graceful shutdown](crate::guide::recipes#graceful-shutdown) does.
    ///
    /// ```no_run
    /// # async fn run(listener: tokio::net::TcpListener, app: axum::Router) -> std::io::Result<()> {
    /// tower_bodyguard::axum::serve(listener, app)
    ///     .with_graceful_shutdown(async {
    ///         let _ = tokio::signal::ctrl_c().await;
    ///     })
    ///     .await
    /// # }
    /// ```
    pub fn with_graceful_shutdown<G>(self, signal: G) -> Serve<L, M, S, G>
    where
        G: Future<Output = ()> + Send + 'static,
    {
        Serve {
            listener: self.listener,
            make_service: self.make_service,
            linger: self.linger,
            http: self.http,
            header_timeout: self.header_timeout,
            max_connections: self.max_connections,
            signal,
            service: PhantomData,
        }
    }

    /// Returns the address that the server listens on.
    ///
    /// # Errors
    ///
    /// Returns the errors of the listener.
    pub fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}

impl<L, M, S, F> Serve<L, M, S, F>
where
    L: Listener,
    M: for<'a> Service<IncomingStream<'a, L>, Error = Infallible, Response = S> + Send + 'static,
    for<'a> <M as Service<IncomingStream<'a, L>>>::Future: Send,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    F: Future<Output = ()> + Send + 'static,
{
    async fn run(self) {
        let Self {
            mut listener,
            mut make_service,
            linger,
            http,
            header_timeout,
            max_connections,
            signal,
            service: _,
        } = self;
        let shares_routes = share_routes(&mut make_service);
        let linger = linger.child();
        linger.used();
        let http = Arc::new(http);
        let slots = max_connections.map(|most| most.min(Semaphore::MAX_PERMITS));
        let slots = slots.map(|most| Arc::new(Semaphore::new(most)));
        // Each connection has a receiver, which notifies it of the shutdown. The server waits until
        // all receivers are dropped.
        let (stop, _) = watch::channel(());
        let mut earlier_timer = EarlierTimer::new(header_timeout);
        let mut signal = pin!(linger.on(signal));
        loop {
            let accepting = pin!(async {
                let slot = slot(slots.as_ref()).await;
                let (io, remote_addr) = accept(&mut listener, &linger).await;
                (slot, io, remote_addr)
            });
            let Some((slot, io, remote_addr)) = before(signal.as_mut(), accepting).await else {
                break;
            };
            let addr = peer_addr::<L>(&remote_addr);
            let shared = shares_routes.then(|| connection_of(&make_service));
            let app = match shared.flatten() {
                Some(app) => app,
                None => {
                    never(poll_fn(|cx| make_service.poll_ready(cx)).await);
                    let stream = IncomingStream {
                        io: &io,
                        remote_addr,
                    };
                    never(make_service.call(stream).await)
                }
            };
            let io = LingerIo::new(io, &linger).combined_from(addr);
            let service = ConnectionService::new(app, &linger, &io);
            earlier_timer.keep();
            let io = TokioIo::new(HeadTimeout::new(io, header_timeout));
            let mut stopped = stop.subscribe();
            let http = Arc::clone(&http);
            tokio::spawn(async move {
                let mut connection = pin!(http.serve_connection_with_upgrades(io, service));
                let stopping = pin!(changed(&mut stopped));
                // An error concerns the client only, and no caller waits for it.
                if before(stopping, connection.as_mut()).await.is_none() {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
                drop(slot);
            });
        }
        drop(listener);
        // An error means that there is no connection.
        let _ = stop.send(());
        stop.closed().await;
        linger.shutdown(linger.shutdown_timeout()).await;
    }
}

/// Waits for a connection to end if the limit on connections is reached.
async fn slot(slots: Option<&Arc<Semaphore>>) -> Option<OwnedSemaphorePermit> {
    let acquired = Arc::clone(slots?).acquire_owned().await;
    Some(acquired.expect("the semaphore is never closed"))
}

/// Waits for the signal. Never returns if the server itself was dropped.
async fn changed(signal: &mut watch::Receiver<()>) {
    if signal.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// Waits for `future`, or for the signal. Returns `None` if the signal comes first.
async fn before<T>(
    mut signal: Pin<&mut impl Future<Output = ()>>,
    mut future: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    poll_fn(|cx| match signal.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => future.as_mut().poll(cx).map(Some),
    })
    .await
}

fn never<T>(result: Result<T, Infallible>) -> T {
    result.unwrap_or_else(|never| match never {})
}

impl<L, M, S, F> IntoFuture for Serve<L, M, S, F>
where
    L: Listener,
    M: for<'a> Service<IncomingStream<'a, L>, Error = Infallible, Response = S> + Send + 'static,
    for<'a> <M as Service<IncomingStream<'a, L>>>::Future: Send,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    F: Future<Output = ()> + Send + 'static,
{
    /// Never an error, as with axum. The future completes only after the signal for
    /// [`with_graceful_shutdown`](Serve::with_graceful_shutdown).
    type Output = io::Result<()>;
    type IntoFuture = ServeFuture;

    fn into_future(self) -> ServeFuture {
        ServeFuture(Box::pin(self.run()))
    }
}

impl<L: fmt::Debug, M, S, F> fmt::Debug for Serve<L, M, S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("listener", &self.listener)
            .field("linger", &self.linger)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

/// The future of [`Serve`].
pub struct ServeFuture(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Future for ServeFuture {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for ServeFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeFuture").finish_non_exhaustive()
    }
}
