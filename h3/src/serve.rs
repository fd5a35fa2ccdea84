use std::{
    any::Any,
    fmt,
    future::{Future, IntoFuture, Pending, pending},
    io, mem,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use quinn::{Connecting, Endpoint};
use tokio::{select, sync::watch, time::timeout};
use tower_bodyguard::Linger;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    connection::{self, App, Client},
    quic,
};

/// Serves an app over HTTP/3, so that each client can read an early response.
///
/// `app` is a `Router`, or any tower service for requests with axum's body type. The requests have
/// the client's address as `ConnectInfo<SocketAddr>`.
///
/// ```no_run
/// use axum::{Router, routing::post};
///
/// # async fn run(config: quinn::ServerConfig) -> std::io::Result<()> {
/// let app = Router::new().route("/", post(|body: String| async { body }));
/// let endpoint = quinn::Endpoint::server(config, "0.0.0.0:443".parse().unwrap())?;
/// tower_bodyguard_h3::serve(endpoint, app).await
/// # }
/// ```
///
/// # Differences from `tower_bodyguard::axum::serve`
///
/// - An unread body is read after its response for as long as a connection over TCP lingers, and
///   the connection goes on: see [`StreamLinger::http3`](tower_bodyguard::StreamLinger::http3).
/// - Each request head has a [timeout](Serve::header_timeout), and not only the first.
/// - There is no descriptor for each connection, so their number has
///   [a limit of its own](Serve::max_connections). quinn's settings limit the streams of each, and
///   their windows.
/// - A client that sent `Expect: 100-continue` gets no 100.
///
/// # Cancel safety
///
/// When the future is dropped, no more connections are accepted. Those that exist continue.
pub fn serve<S, B>(endpoint: Endpoint, mut app: S) -> Serve<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    // A router without its state makes its layers anew for each request.
    if let Some(router) = (&mut app as &mut dyn Any).downcast_mut::<Router>() {
        *router = mem::take(router).with_state(());
    }
    Serve {
        endpoint,
        app,
        linger: Linger::default(),
        h3: Arc::new(|h3| {
            h3.max_field_section_size(MAX_FIELD_SECTION_SIZE);
        }),
        header_timeout: Some(HEADER_TIMEOUT),
        max_connections: Some(MAX_CONNECTIONS),
        signal: pending(),
    }
}

/// The same as hyper's default (`server::conn::http1::Builder`).
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// The same as hyper's default for HTTP/2 (`proto/h2/server.rs`).
const MAX_FIELD_SECTION_SIZE: u64 = 16 << 10;

/// An idle connection takes about 55 KiB (Linux, quinn 0.11.12), so these take 900 MiB.
const MAX_CONNECTIONS: usize = 16_384;

/// With more handshakes in progress, clients have to prove their addresses first (RFC 9000 §8.1.2),
/// which takes a round trip. Until then the server keeps no state of them.
const HANDSHAKES_WITHOUT_RETRY: usize = 256;

/// The time that closed connections get to tell their clients.
const LAST_TURN: Duration = Duration::from_secs(1);

/// The server that [`serve`](serve()) returns. Await it to run it.
#[must_use = "a server does nothing unless it is awaited"]
pub struct Serve<S, F = Pending<()>> {
    endpoint: Endpoint,
    app: S,
    linger: Linger,
    h3: Arc<Configure>,
    header_timeout: Option<Duration>,
    max_connections: Option<usize>,
    signal: F,
}

type Configure = dyn Fn(&mut h3::server::Builder) + Send + Sync;

impl<S, F> Serve<S, F> {
    /// Sets the handle whose settings, slots and counters the server uses. Without this, the server
    /// has a handle of its own with the defaults of [`Linger`].
    ///
    /// Pass the handle of the server for TCP, so that both share their limits. Each server uses a
    /// [child](Linger::child) of it, so that it can shut down separately.
    pub fn with_linger(mut self, linger: &Linger) -> Self {
        self.linger = linger.clone();
        self
    }

    /// Limits how long a client may take for the handshake, and for each request head. A head that
    /// takes longer is reset with `H3_REQUEST_REJECTED`. `None` sets no limit. Default: 30 s.
    pub fn header_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.header_timeout = timeout.into();
        self
    }

    /// Limits how many connections may be open. Others are refused (`CONNECTION_REFUSED`), and
    /// browsers then use TCP. A client can keep idle connections for as long as it likes. `None` sets no limit. Default: 16 384, which take about 900 MiB if all are idle.
    ///
    /// While more than 256 handshakes are in progress, each further client has to prove its address
    /// with a `Retry` packet (RFC 9000 §8.1.2). So a flood from forged addresses takes no more memory.
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

    /// Changes h3's settings. It is called for each connection.
    ///
    /// This crate's default for `max_field_section_size` is 16 KiB, as hyper's is for HTTP/2.
    ///
    /// ```no_run
    /// # async fn run(endpoint: quinn::Endpoint, app: axum::Router) -> std::io::Result<()> {
    /// tower_bodyguard_h3::serve(endpoint, app)
    ///     .h3(|h3| {
    ///         h3.max_field_section_size(64 * 1024);
    ///     })
    ///     .await
    /// # }
    /// ```
    pub fn h3<C>(mut self, configure: C) -> Self
    where
        C: Fn(&mut h3::server::Builder) + Send + Sync + 'static,
    {
        let before = self.h3;
        self.h3 = Arc::new(move |h3| {
            before(h3);
            configure(h3);
        });
        self
    }

    /// Shuts the server down when `signal` completes. The server's future completes when the
    /// shutdown is done.
    ///
    /// The server refuses new connections. Each client is told to send no more requests (`GOAWAY`),
    /// and its connection is closed when its requests are over. Unread bodies are read for at most
    /// the [shutdown timeout](tower_bodyguard::LingerConfig::shutdown_timeout).
    ///
    /// A request that arrives later is reset with `H3_REQUEST_REJECTED`, so that the client may send
    /// it again.
    ///
    /// A slow handler is not limited here, nor a client that reads its response slowly, or sends its
    /// request head slowly within the [`header_timeout`](Self::header_timeout). To limit them, wrap
    /// the future in `tokio::time::timeout`.
    pub fn with_graceful_shutdown<G>(self, signal: G) -> Serve<S, G>
    where
        G: Future<Output = ()> + Send + 'static,
    {
        Serve {
            endpoint: self.endpoint,
            app: self.app,
            linger: self.linger,
            h3: self.h3,
            header_timeout: self.header_timeout,
            max_connections: self.max_connections,
            signal,
        }
    }

    /// Returns the address that the server listens on.
    ///
    /// # Errors
    ///
    /// Returns the errors of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }
}

impl<S, B, F> Serve<S, F>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Send,
    F: Future<Output = ()> + Send + 'static,
{
    async fn run(self) {
        let Self {
            endpoint,
            app,
            linger,
            h3,
            header_timeout,
            max_connections,
            signal,
        } = self;
        let linger = linger.child();
        // Each connection has a receiver, which notifies it of the shutdown. The server waits until
        // all receivers are dropped.
        let (stop, _) = watch::channel(());
        // Each handshake in progress has a clone.
        let handshakes = Arc::new(());
        let mut signal = pin!(linger.on(signal));
        loop {
            let incoming = select! {
                incoming = endpoint.accept() => incoming,
                () = &mut signal => break,
            };
            // The endpoint was closed.
            let Some(incoming) = incoming else { break };
            if max_connections.is_some_and(|max| endpoint.open_connections() >= max) {
                incoming.refuse();
                continue;
            }
            let is_proved = incoming.remote_address_validated();
            if Arc::strong_count(&handshakes) > HANDSHAKES_WITHOUT_RETRY && !is_proved {
                // It is an error only for clients that have proved their address.
                let _ = incoming.retry();
                continue;
            }
            let delivery = linger.delivery_layer_for(incoming.remote_address());
            // The packet is not one of a new connection after all.
            let Ok(connecting) = incoming.accept() else {
                continue;
            };
            let service = delivery.layer(App(app.clone()));
            let h3 = Arc::clone(&h3);
            let handshaking = Arc::clone(&handshakes);
            let mut stopped = stop.subscribe();
            tokio::spawn(async move {
                let accepted = select! {
                    accepted = handshake(connecting, &*h3) => accepted,
                    () = connection::after(header_timeout) => return,
                    () = changed(&mut stopped) => return,
                };
                drop(handshaking);
                // A failed handshake concerns the client only, and no caller waits for it.
                let Some(Accepted {
                    quinn,
                    h3,
                    rejecting,
                }) = accepted
                else {
                    return;
                };
                let client = Client {
                    connection: quinn,
                    header_timeout,
                };
                let stopping = async {
                    changed(&mut stopped).await;
                    rejecting.begin();
                };
                connection::serve(h3, service, client, stopping).await;
            });
        }
        // An error means that there is no connection.
        let _ = stop.send(());
        select! {
            () = stop.closed() => {}
            () = refuse(&endpoint) => stop.closed().await,
        }
        endpoint.set_server_config(None);
        linger.shutdown(Duration::ZERO).await;
        let _ = timeout(LAST_TURN, endpoint.wait_idle()).await;
    }
}

/// A connection whose handshake is over.
struct Accepted {
    quinn: quinn::Connection,
    h3: h3::server::Connection<quic::Connection, Bytes>,
    rejecting: quic::Rejecting,
}

async fn handshake(connecting: Connecting, configure: &Configure) -> Option<Accepted> {
    let quinn = connecting.await.ok()?;
    let connection = quic::Connection::new(quinn.clone());
    let rejecting = connection.rejecting();
    let mut builder = h3::server::builder();
    configure(&mut builder);
    let h3 = builder.build(connection).await.ok()?;
    Some(Accepted {
        quinn,
        h3,
        rejecting,
    })
}

/// Refuses connections until the endpoint is closed.
async fn refuse(endpoint: &Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        incoming.refuse();
    }
}

/// Waits for the signal. Never returns if the server itself was dropped.
async fn changed(signal: &mut watch::Receiver<()>) {
    if signal.changed().await.is_err() {
        pending::<()>().await;
    }
}

impl<S, B, F> IntoFuture for Serve<S, F>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Send,
    F: Future<Output = ()> + Send + 'static,
{
    /// Never an error, as with axum. The future completes after the signal for
    /// [`with_graceful_shutdown`](Serve::with_graceful_shutdown), or when the endpoint is closed.
    type Output = io::Result<()>;
    type IntoFuture = ServeFuture;

    fn into_future(self) -> ServeFuture {
        ServeFuture(Box::pin(self.run()))
    }
}

impl<S, F> fmt::Debug for Serve<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("endpoint", &self.endpoint)
            .field("linger", &self.linger)
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
