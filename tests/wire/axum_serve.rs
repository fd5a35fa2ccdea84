//! `tower_bodyguard::axum::serve` accepts what axum's `serve` accepts. Its own additions are tested
//! here, too.
#![cfg(feature = "axum")]

use std::{
    convert::Infallible,
    future::{Future, IntoFuture},
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use axum::{
    Extension, Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Request},
    handler::{Handler, HandlerWithoutStateExt},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{any, get, post},
    serve::{Listener, ListenerExt},
};
use testkit::client::{
    FRAMINGS, Framing, PATIENCE, Response as Parsed, SendFirst, connect, read_response, read_to_end,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpListener,
    sync::{mpsc as channel, oneshot},
    time::{Instant, timeout},
};
use tower::{Layer, Service, service_fn};
use tower_bodyguard::{
    BodyBudget, BodyGuardLayer, Linger, MIB, Refusal,
    axum::{IncomingStream, serve},
    limit::BodyLimitStatus,
};

use crate::server::Server;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";

fn server<F>(serve: impl FnOnce(TcpListener) -> F) -> Server
where
    F: IntoFuture<Output = io::Result<()>, IntoFuture: Send + 'static>,
{
    Server::run(|listener, _| {
        let served = serve(listener).into_future();
        async move { served.await.unwrap() }
    })
}

fn ask(socket: &mut TcpStream) -> String {
    socket.write_all(GET).unwrap();
    read_response(socket).unwrap().body
}

async fn hello() -> &'static str {
    "hello"
}

fn app() -> Router {
    Router::new().route("/", get(hello).post(|| async { StatusCode::UNAUTHORIZED }))
}

#[test]
fn everything_that_axum_serves_is_served() {
    let servers = [
        server(|listener| serve(listener, app())),
        server(|listener| serve(listener, get(hello))),
        server(|listener| serve(listener, hello.into_service())),
        server(|listener| serve(listener, hello.with_state(()))),
        server(|listener| serve(listener, hello.into_make_service())),
        server(|listener| serve(listener, app().into_make_service())),
        server(|listener| serve(listener, BodyGuardLayer::axum(MIB).layer(app()))),
        server(|listener| {
            let make = |_: IncomingStream<'_, TcpListener>| async { Ok::<_, Infallible>(app()) };
            serve(listener, service_fn(make))
        }),
        server(|listener| {
            let respond =
                |_: Request| async { Ok::<Response, Infallible>("hello".into_response()) };
            serve(listener, tower::make::Shared::new(service_fn(respond)))
        }),
    ];
    for server in servers {
        let mut socket = connect(server.addr);
        for _ in 0..2 {
            assert_eq!(ask(&mut socket), "hello");
        }
    }
}

/// Counts how often a route is wrapped in it, and how often such a route is cloned.
#[derive(Clone, Default)]
struct Counts {
    made: Arc<AtomicUsize>,
    cloned: Arc<AtomicUsize>,
}

struct Counted<S> {
    route: S,
    cloned: Arc<AtomicUsize>,
}

impl<S> Layer<S> for Counts {
    type Service = Counted<S>;

    fn layer(&self, route: S) -> Counted<S> {
        self.made.fetch_add(1, Ordering::SeqCst);
        let cloned = Arc::clone(&self.cloned);
        Counted { route, cloned }
    }
}

impl<S: Clone> Clone for Counted<S> {
    fn clone(&self) -> Self {
        self.cloned.fetch_add(1, Ordering::SeqCst);
        Self {
            route: self.route.clone(),
            cloned: Arc::clone(&self.cloned),
        }
    }
}

impl<S: Service<Request>> Service<Request> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.route.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> S::Future {
        self.route.call(request)
    }
}

const ROUTES: usize = 20;

/// Returns how many routes are made, and how many are cloned, by the second connection and its
/// request.
fn routes_of_a_connection<F>(start: impl FnOnce(TcpListener, Router) -> F) -> [usize; 2]
where
    F: IntoFuture<Output = io::Result<()>, IntoFuture: Send + 'static>,
{
    let counts = Counts::default();
    let routes = (0..ROUTES).fold(app(), |app, number| {
        app.route(&format!("/{number}"), get(hello))
    });
    let app = routes.layer(counts.clone());
    let server = server(|listener| start(listener, app));
    let seen = [(); 2].map(|()| {
        assert_eq!(ask(&mut connect(server.addr)), "hello");
        [&counts.made, &counts.cloned].map(|count| count.swap(0, Ordering::SeqCst))
    });
    seen[1]
}

#[test]
fn connections_share_the_routes_of_a_router() {
    for [made, cloned] in [
        routes_of_a_connection(serve),
        routes_of_a_connection(|listener, app| {
            serve(listener, BodyGuardLayer::axum(MIB).layer(app))
        }),
    ] {
        assert_eq!(made, 0);
        // A request clones its own route.
        assert!(cloned < ROUTES, "{cloned}");
    }
}

/// axum makes the routes for each connection. So does this crate, if a route has a limit layer.
#[test]
fn routes_with_a_limit_layer_are_made_for_each_connection() {
    for [made, _] in [
        routes_of_a_connection(axum::serve),
        routes_of_a_connection(|listener, app| {
            serve(listener, app.layer(BodyGuardLayer::axum(MIB)))
        }),
        routes_of_a_connection(|listener, app| {
            let app = app.layer(BodyGuardLayer::axum(MIB));
            serve(listener, BodyGuardLayer::axum(MIB).layer(app))
        }),
    ] {
        assert!(made >= ROUTES, "{made}");
    }
}

/// `serve` calls the router without the layer if a request passes by its head.
#[test]
fn limit_around_a_whole_app_holds_for_extractors_and_has_its_own_response() {
    const LIMIT: u64 = 3 * MIB;
    let refuse = |refusal: &Refusal| format!("at most {:?}", refusal.limit());
    let guard = BodyGuardLayer::axum(LIMIT).refusal_response(refuse);
    let app = Router::new().route(
        "/",
        post(|body: Bytes| async move { body.len().to_string() }),
    );
    let server = server(|listener| serve(listener, guard.layer(app)));
    for framing in FRAMINGS {
        let send = |length| SendFirst::post("/", framing, length).header("Connection: close");
        let respond = |length| send(length).to(server.addr);
        let passed = respond(LIMIT).assert_delivered(200);
        assert_eq!(passed.body, LIMIT.to_string(), "{framing:?}");
        let refused = respond(LIMIT + 1).assert_delivered(413);
        assert_eq!(refused.body, "at most Some(3145728)", "{framing:?}");
    }
}

/// Sends requests to an app with a limit of 5000 bytes, one on each connection. Returns the status,
/// the text, and the limit that the response announces.
fn responses_with_a_limit(server: &Server) -> Vec<(u16, String, Option<String>)> {
    let upload = |framing, length| {
        let upload = SendFirst::post("/", framing, length).header("Connection: close");
        upload.to(server.addr).text()
    };
    let bodiless = |method| {
        let mut socket = connect(server.addr);
        let head = format!("{method} / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        String::from_utf8(read_to_end(&mut socket).0).unwrap()
    };
    let bodiless = ["GET", "OPTIONS"].map(bodiless);
    let uploads = FRAMINGS.map(|framing| [1, 5000, 5001].map(|length| upload(framing, length)));
    let texts = bodiless.into_iter().chain(uploads.into_iter().flatten());
    let response = |text: String| {
        let (response, _) = Parsed::parse(text.as_bytes()).expect("a whole response");
        let limit = response.header("upload-limit").map(str::to_owned);
        (response.status, response.body, limit)
    };
    texts.map(response).collect()
}

#[test]
fn settings_of_a_limit_around_a_whole_app_hold_as_in_the_app() {
    async fn describe(limit: Option<Extension<BodyLimitStatus>>, body: Body) -> String {
        let length = to_bytes(body, usize::MAX).await.map(|body| body.len());
        format!("{} {:?}", limit.is_some(), length.ok())
    }
    let guard = || BodyGuardLayer::axum(5000);
    let guards = [
        guard(),
        guard().keep_handler_response(),
        guard().upload_limit_on_options(),
        guard().require_content_length(),
        guard().min_rate(1, Duration::from_secs(60)),
        guard().budget(&BodyBudget::max_bytes(2048)),
    ];
    let responses = |guard: BodyGuardLayer<_, _>| {
        let app = || Router::new().route("/", any(describe));
        let [inside, around] = [
            server(|listener| serve(listener, app().layer(guard.clone()))),
            server(|listener| serve(listener, guard.layer(app()))),
        ];
        let inside = responses_with_a_limit(&inside);
        assert_eq!(responses_with_a_limit(&around), inside, "{guard:?}");
        inside
    };
    let seen = thread::scope(|scope| {
        let running = guards.map(|guard| scope.spawn(|| responses(guard)));
        running.map(|one| one.join().expect("no panic"))
    });
    let plain = &seen[0];
    let statuses = plain.iter().map(|(status, ..)| *status);
    assert!(statuses.eq([200, 200, 200, 200, 413, 200, 200, 413]));
    // Every setting except the minimum rate changes a response.
    assert_eq!(seen.iter().filter(|seen| *seen == plain).count(), 2);
}

#[test]
fn connect_info_is_the_clients_address() {
    let whoami = |ConnectInfo(from): ConnectInfo<SocketAddr>| async move { from.to_string() };
    let app = Router::new().route("/", get(whoami));
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let servers = [
        server(|listener| serve(listener, app.clone())),
        server(|listener| {
            serve(
                listener.tap_io(|socket| socket.set_nodelay(true).unwrap()),
                app,
            )
        }),
    ];
    for server in servers {
        let mut socket = connect(server.addr);
        let own = socket.local_addr().unwrap();
        assert_eq!(ask(&mut socket), own.to_string());
    }
}

#[test]
fn address_is_the_listeners() {
    let (tell, told) = mpsc::channel();
    let server = server(|listener| {
        let server = serve(listener, app());
        tell.send(server.local_addr().unwrap()).unwrap();
        server
    });
    assert_eq!(told.recv().unwrap(), server.addr);
}

#[test]
fn settings_of_hyper_can_be_changed() {
    let server = server(|listener| {
        serve(listener, app()).http(|http| {
            http.http1().max_buf_size(8192);
        })
    });
    let mut socket = connect(server.addr);
    let head = format!(
        "GET / HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n",
        "x".repeat(10_000)
    );
    socket.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_response(&mut socket).unwrap().status, 431);
}

/// Returns the client of a refused upload that has not closed.
fn refused(server: &Server, linger: &Linger) -> TcpStream {
    let before = linger.stats().lingering();
    let upload = SendFirst::post("/", Framing::ContentLength, 16 * MIB);
    let mut socket = connect(server.addr);
    socket.write_all(upload.head().as_bytes()).unwrap();
    assert_eq!(read_response(&mut socket).unwrap().status, 401);
    while linger.stats().lingering() == before {
        thread::yield_now();
    }
    socket
}

#[test]
fn connections_beyond_the_limit_wait_and_lingering_ones_do_not_count() {
    let linger = Linger::default();
    let server = server(|listener| {
        serve(listener, app())
            .with_linger(&linger)
            .max_connections(1)
    });
    let lingering = [(); 2].map(|()| refused(&server, &linger));
    let mut first = connect(server.addr);
    assert_eq!(ask(&mut first), "hello");
    let mut second = connect(server.addr);
    second.write_all(GET).unwrap();
    for _ in 0..10 {
        assert_eq!(ask(&mut first), "hello");
    }
    second.set_nonblocking(true).unwrap();
    let early = second.read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(early, Err(ErrorKind::WouldBlock));
    second.set_nonblocking(false).unwrap();
    drop(first);
    assert_eq!(read_response(&mut second).unwrap().body, "hello");
    drop(lingering);
}

#[test]
fn signal_ends_idle_connections_and_lets_requests_finish() {
    let (signal, stop) = oneshot::channel::<()>();
    let (release, held) = channel::channel::<()>(1);
    let held = Arc::new(tokio::sync::Mutex::new(held));
    let (tell_begun, begun) = mpsc::channel();
    let (tell_ended, ended) = mpsc::channel();
    let released = Arc::new(AtomicBool::new(false));
    let was_released = Arc::clone(&released);
    let wait = move || {
        let (held, tell_begun) = (held.clone(), tell_begun.clone());
        async move {
            tell_begun.send(()).unwrap();
            held.lock().await.recv().await;
            "at last"
        }
    };
    let app = app().route("/wait", post(wait));
    let server = Server::run(|listener, _| async move {
        serve(listener, app)
            .with_graceful_shutdown(async { stop.await.unwrap_or_default() })
            .await
            .unwrap();
        tell_ended
            .send(was_released.load(Ordering::SeqCst))
            .unwrap();
    });
    let mut idle = connect(server.addr);
    assert_eq!(ask(&mut idle), "hello");
    let mut busy = connect(server.addr);
    let request = b"POST /wait HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";
    busy.write_all(request).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    signal.send(()).unwrap();
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0);
    let late = TcpStream::connect(server.addr).map_err(|error| error.kind());
    assert_eq!(late.err(), Some(ErrorKind::ConnectionRefused));
    released.store(true, Ordering::SeqCst);
    release.blocking_send(()).unwrap();
    assert_eq!(read_response(&mut busy).unwrap().body, "at last");
    assert!(ended.recv_timeout(PATIENCE).unwrap(), "it waited");
}

/// A listener of in-memory connections, which work with paused time. axum does not know its address
/// type.
struct InMemory(channel::Receiver<DuplexStream>);

impl Listener for InMemory {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(socket) => (socket, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns how long the server keeps a silent client that has sent nothing, half a head, half a
/// request, or a whole request. `None` means at least an hour.
async fn lifetimes<S>(server: S, connect: channel::Sender<DuplexStream>) -> [Option<Duration>; 4]
where
    S: IntoFuture<IntoFuture: Future + Send + 'static, Output = io::Result<()>>,
{
    let served = server.into_future();
    tokio::spawn(async move { drop(served.await) });
    let lifetime = async |begin: &[u8]| {
        let (mut socket, served) = duplex(1024);
        connect.send(served).await.unwrap();
        socket.write_all(begin).await.unwrap();
        let start = Instant::now();
        let mut received = Vec::new();
        let closed = timeout(Duration::from_secs(3600), socket.read_to_end(&mut received));
        closed.await.ok().map(|_| start.elapsed())
    };
    [
        lifetime(b"").await,
        lifetime(b"GET / HTTP/1.1\r\nHost:").await,
        lifetime(b"POST /body HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhalf.").await,
        lifetime(GET).await,
    ]
}

fn in_memory() -> (channel::Sender<DuplexStream>, InMemory) {
    let (connect, accepted) = channel::channel(1);
    (connect, InMemory(accepted))
}

fn reading() -> Router {
    app().route("/body", post(|body: String| async { body }))
}

#[tokio::test(start_paused = true)]
async fn client_without_a_request_is_closed_after_the_header_timeout() {
    let (connect, listener) = in_memory();
    let [nothing, half, upload, idle] = lifetimes(serve(listener, reading()), connect).await;
    assert_eq!([nothing, half], [Some(Duration::from_secs(30)); 2]);
    assert_eq!([upload, idle], [None; 2]);

    let (connect, listener) = in_memory();
    let server = serve(listener, reading()).header_timeout(Duration::from_secs(10));
    let [nothing, half, upload, idle] = lifetimes(server, connect).await;
    assert_eq!([nothing, half], [Some(Duration::from_secs(10)); 2]);
    assert_eq!([upload, idle], [None; 2]);
}

#[tokio::test(start_paused = true)]
async fn client_without_a_request_is_kept_without_a_header_timeout() {
    let (connect, listener) = in_memory();
    let server = serve(listener, reading()).header_timeout(None);
    assert_eq!(lifetimes(server, connect).await, [None; 4]);
}

/// hyper's own timeout needs a timer. Our `serve` sets one.
#[tokio::test(start_paused = true)]
async fn idle_connection_is_closed_after_hypers_timeout() {
    let (connect, listener) = in_memory();
    let server = serve(listener, reading()).http(|http| {
        http.http1().header_read_timeout(Duration::from_secs(75));
    });
    let [.., upload, idle] = lifetimes(server, connect).await;
    assert_eq!([upload, idle], [None, Some(Duration::from_secs(75))]);
}

#[test]
#[should_panic(expected = "would linger twice")]
fn wrapped_listener_panics_at_start() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let _context = runtime.enter();
    drop(serve(Linger::default().listener(listener), app()));
}

#[test]
#[should_panic(expected = "a server needs a connection")]
fn limit_of_no_connections_panics() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let _context = runtime.enter();
    drop(serve(listener, app()).max_connections(0));
}

/// The compiler checks that the future can be spawned.
#[test]
fn future_can_be_sent() {
    fn assert_send(_: impl Future + Send + 'static) {}
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let _context = runtime.enter();
    assert_send(serve(listener, app()).into_future());
}
