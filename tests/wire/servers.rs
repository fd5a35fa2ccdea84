//! Every server that tower users run, with delivery and linger combined. Clients write 64 MiB
//! before they read, over TCP, TLS and Unix sockets.
#![cfg(all(feature = "axum", feature = "axum-server"))]

use std::{
    future::Future,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};
#[cfg(unix)]
use std::{os::unix::net::UnixStream, path::PathBuf};

use axum::{
    Router,
    extract::ConnectInfo,
    http::StatusCode,
    routing::{Route, get, post},
};
use axum_server::tls_rustls::RustlsConfig;
use h2::Reason;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
#[cfg(unix)]
use tempfile::TempDir;
#[cfg(unix)]
use testkit::client::connect_unix;
use testkit::{
    LARGE, MIB, SendFirst,
    client::{FRAMINGS, Framing, PATIENCE, connect, read_response},
    h2::{Client, over, upload},
    tls::{Certificate, Connector},
};
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use tower::{Layer, layer::layer_fn};
use tower_bodyguard::{
    BodyGuardLayer, Delivery, Limit, Linger, axum::AxumService, limit::PlainText, linger,
};

use crate::server::{Server, counting, guarded};

fn app() -> Router {
    others(guarded(4 * MIB))
}

/// Returns a limit layer that wraps the whole app.
fn guard() -> BodyGuardLayer<PlainText, AxumService> {
    let limit = Limit::from_fn(|head| match head.uri.path() {
        "/early" => Limit::unlimited(),
        _ => Limit::max(4 * MIB),
    });
    BodyGuardLayer::axum(limit)
}

fn others(app: Router) -> Router {
    app.route("/early", post(|| async { StatusCode::UNAUTHORIZED }))
        .route("/here", get(|| async { "here" }))
        .route(
            "/who",
            get(|ConnectInfo(who): ConnectInfo<SocketAddr>| async move { who.to_string() }),
        )
}

/// A server with the transport to reach it.
struct Served {
    name: &'static str,
    server: Server,
    way: Way,
}

enum Way {
    Tcp,
    Tls(Connector),
    #[cfg(unix)]
    Unix {
        path: PathBuf,
        _folder: TempDir,
    },
}

trait Socket: Read + Write {
    /// Closes the sending side of the connection.
    fn finish(&self) -> io::Result<()>;
}

impl Socket for std::net::TcpStream {
    fn finish(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Socket for testkit::tls::TlsClient {
    fn finish(&self) -> io::Result<()> {
        self.get_ref().shutdown(Shutdown::Write)
    }
}

#[cfg(unix)]
impl Socket for UnixStream {
    fn finish(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Served {
    fn connect(&self) -> Box<dyn Socket> {
        println!("{}", self.name);
        match &self.way {
            Way::Tcp => Box::new(connect(self.server.addr)),
            Way::Tls(connector) => Box::new(connector.connect(self.server.addr)),
            #[cfg(unix)]
            Way::Unix { path, .. } => Box::new(connect_unix(path)),
        }
    }
}

impl Served {
    async fn http2(&self) -> Client {
        println!("{}", self.name);
        match &self.way {
            Way::Tcp => over(TcpStream::connect(self.server.addr).await.unwrap()).await,
            Way::Tls(connector) => over(connector.connect_async(self.server.addr).await).await,
            #[cfg(unix)]
            Way::Unix { path, .. } => {
                over(tokio::net::UnixStream::connect(path).await.unwrap()).await
            }
        }
    }
}

fn tcp(name: &'static str, server: Server) -> Served {
    let way = Way::Tcp;
    Served { name, server, way }
}

fn tls(
    name: &'static str,
    version: &'static SupportedProtocolVersion,
    start: fn(&Certificate) -> Server,
) -> Served {
    let certificate = Certificate::new();
    Served {
        name,
        server: start(&certificate),
        way: Way::Tls(certificate.client(version)),
    }
}

fn servers() -> Vec<Served> {
    let mut servers = vec![
        tcp("axum::serve", Server::wrapped(app())),
        tcp("our axum::serve", Server::combined(app())),
        tcp("our axum::serve, the limit layer around the app", around()),
        #[cfg(unix)]
        unix(),
        tcp("http1", accepting(by_http1)),
        tcp("auto", accepting(by_auto)),
        tcp("axum-server", axum_server()),
        tls("tokio-rustls, TLS 1.2", &TLS12, over_rustls),
        tls("tokio-rustls, TLS 1.3", &TLS13, over_rustls),
        tls("axum-server, TLS 1.2", &TLS12, axum_server_over_rustls),
        tls("axum-server, TLS 1.3", &TLS13, axum_server_over_rustls),
    ];
    servers.extend(native_tls());
    servers
}

/// Returns a server with a second TLS library, which is OpenSSL on Linux. It is built only in the
/// package `native-tls/`, so that the other tests do not need OpenSSL's headers.
fn native_tls() -> Option<Served> {
    // With OpenSSL, native-tls supports no other version on the server side.
    #[cfg(bodyguard_native_tls)]
    return Some(tls("tokio-native-tls, TLS 1.2", &TLS12, over_native_tls));
    #[cfg(not(bodyguard_native_tls))]
    None
}

fn around() -> Server {
    Server::run(|listener, linger| async move {
        let app = guard().layer(others(counting()));
        tower_bodyguard::axum::serve(listener, app)
            .with_linger(&linger)
            .await
            .unwrap();
    })
}

/// Runs an accept loop that combines delivery and linger on each connection.
fn accepting<F>(serve: fn(TcpStream, Linger) -> F) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    Server::run(move |listener, linger| async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(socket, linger.clone()));
        }
    })
}

async fn by_http1(socket: TcpStream, linger: Linger) {
    let (io, service) = linger.wrap(socket, app());
    let service = TowerToHyperService::new(service);
    let connection = http1::Builder::new().serve_connection(TokioIo::new(io), service);
    // The client asserts how the connection ended.
    let _ = connection.await;
}

async fn by_auto(socket: TcpStream, linger: Linger) {
    let (io, service) = linger.wrap(socket, app());
    auto(io, service).await;
}

async fn auto<T>(io: T, service: Delivery<Router>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(service);
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
    let _ = connection.await;
}

#[cfg(unix)]
fn unix() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let server = Server::run(|_, linger| {
        let listener = UnixListener::bind(&path).unwrap();
        async move {
            tower_bodyguard::axum::serve(listener, app())
                .with_linger(&linger)
                .await
                .unwrap();
        }
    });
    Served {
        name: "our axum::serve over a Unix socket",
        server,
        way: Way::Unix {
            path,
            _folder: folder,
        },
    }
}

fn over_rustls(certificate: &Certificate) -> Server {
    let acceptor = certificate.acceptor();
    Server::run(move |listener, linger| async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (io, service) = linger.wrap(socket, app());
            let acceptor = acceptor.clone();
            tokio::spawn(async move { auto(acceptor.accept(io).await.unwrap(), service).await });
        }
    })
}

#[cfg(bodyguard_native_tls)]
fn over_native_tls(certificate: &Certificate) -> Server {
    let (certificate, key) = certificate.pem();
    let identity = native_tls::Identity::from_pkcs8(certificate.as_bytes(), key.as_bytes());
    let acceptor = native_tls::TlsAcceptor::new(identity.unwrap()).unwrap();
    let acceptor = tokio_native_tls::TlsAcceptor::from(acceptor);
    Server::run(move |listener, linger| async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (io, service) = linger.wrap(socket, app());
            let acceptor = acceptor.clone();
            tokio::spawn(async move { auto(acceptor.accept(io).await.unwrap(), service).await });
        }
    })
}

fn axum_server() -> Server {
    Server::run(|listener, linger| async move {
        let listener = listener.into_std().unwrap();
        axum_server::from_tcp(listener)
            .unwrap()
            .acceptor(linger.acceptor())
            .serve(app().into_make_service())
            .await
            .unwrap();
    })
}

fn axum_server_over_rustls(certificate: &Certificate) -> Server {
    let config = RustlsConfig::from_config(certificate.server());
    Server::run(|listener, linger| async move {
        let listener = listener.into_std().unwrap();
        axum_server::from_tcp_rustls(listener, config)
            .unwrap()
            .map(|tls| tls.acceptor(linger.acceptor()))
            .serve(app().into_make_service())
            .await
            .unwrap();
    })
}

#[test]
fn refusals_arrive() {
    for served in servers() {
        for framing in FRAMINGS {
            for (path, status) in [("/", 413), ("/early", 401)] {
                SendFirst::post(path, framing, LARGE)
                    .over(served.connect())
                    .assert_delivered(status);
            }
        }
    }
}

#[test]
fn ten_requests_travel_on_one_connection() {
    for served in servers() {
        let mut socket = served.connect();
        for length in 0..10 {
            let upload = SendFirst::post("/", Framing::ContentLength, length * 1000);
            upload.write(&mut socket).unwrap();
            let response = read_response(&mut socket).unwrap();
            assert_eq!(response.body, (length * 1000).to_string());
        }
    }
}

/// A close does not linger if everything was read.
#[test]
fn a_client_that_says_close_is_closed() {
    for served in servers() {
        let upload = SendFirst::post("/", Framing::Chunked, 1000).header("Connection: close");
        let outcome = upload.over(served.connect());
        assert_eq!(outcome.assert_delivered(200).body, "1000");
        let refused = SendFirst::post("/early", Framing::Chunked, LARGE);
        let refused = refused.header("Connection: close");
        refused.over(served.connect()).assert_delivered(401);
    }
}

#[test]
fn client_that_half_closes_in_mid_body_is_responded_to() {
    for served in servers() {
        let mut socket = served.connect();
        let upload = SendFirst::post("/early", Framing::ContentLength, LARGE);
        socket.write_all(upload.head().as_bytes()).unwrap();
        socket.write_all(&[0; 100_000]).unwrap();
        socket.finish().unwrap();
        assert_eq!(read_response(&mut socket).unwrap().status, 401);
    }
}

#[test]
fn an_app_within_a_guard_knows_its_peers() {
    let server = Server::run(|listener, linger| async move {
        let app = others(counting()).into_make_service_with_connect_info::<SocketAddr>();
        tower_bodyguard::axum::serve(listener, guard().layer(app))
            .with_linger(&linger)
            .await
            .unwrap();
    });
    let mut socket = connect(server.addr);
    let get = b"GET /who HTTP/1.1\r\nHost: test\r\n\r\n";
    socket.write_all(get).unwrap();
    let who = read_response(&mut socket).unwrap().body;
    assert_eq!(who, socket.local_addr().unwrap().to_string());
}

/// As in axum, a layer inside keeps its state for longer than a request: for a connection, or for
/// all connections.
#[test]
fn an_app_within_a_guard_is_made_for_each_connection() {
    let layered = |made: &Arc<AtomicUsize>| {
        let made = Arc::clone(made);
        app().layer(layer_fn(move |service: Route| {
            made.fetch_add(1, Ordering::SeqCst);
            service
        }))
    };
    let asked = |server: &Server, made: &Arc<AtomicUsize>| {
        let made_before = made.load(Ordering::SeqCst);
        for _ in 0..3 {
            let mut socket = connect(server.addr);
            for _ in 0..10 {
                let upload = SendFirst::post("/", Framing::ContentLength, 1000);
                upload.write(&mut socket).unwrap();
                assert_eq!(read_response(&mut socket).unwrap().body, "1000");
            }
        }
        made.load(Ordering::SeqCst) - made_before
    };

    let made = Arc::default();
    let app = layered(&made);
    let plain = asked(&Server::combined(app.clone()), &made);
    let around = |listener, linger: Linger| async move {
        tower_bodyguard::axum::serve(listener, guard().layer(app))
            .with_linger(&linger)
            .await
            .unwrap();
    };
    assert_eq!(asked(&Server::run(around), &made), plain);

    let once = layered(&made).into_make_service();
    let around = |listener, linger: Linger| async move {
        tower_bodyguard::axum::serve(listener, guard().layer(once))
            .with_linger(&linger)
            .await
            .unwrap();
    };
    assert_eq!(asked(&Server::run(around), &made), 0);

    // Without a maker that runs for each connection, `with_state` builds the app once.
    let once = guard().layer(layered(&made).with_state::<()>(()));
    let server = Server::run(move |listener, linger| async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (io, service) = linger.wrap(socket, once.clone());
            let service = TowerToHyperService::new(service);
            let connection = http1::Builder::new().serve_connection(TokioIo::new(io), service);
            tokio::spawn(connection);
        }
    });
    assert_eq!(asked(&server, &made), 0);
}

/// Each refusal has its own stream, and the connection continues.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_arrive_over_http2() {
    let servers = tokio::task::spawn_blocking(servers).await.unwrap();
    for served in servers.iter().filter(|served| served.name != "http1") {
        let client = served.http2().await;
        for (path, status) in [("/", 413), ("/early", 401)] {
            let seen = upload(&client, path, 20_000_000).await;
            assert_eq!(seen.status, status);
            assert!(
                matches!(seen.reset, None | Some(Reason::NO_ERROR)),
                "{seen:?}"
            );
        }
        let within = upload(&client, "/", 1_000_000).await;
        assert_eq!(within.body, "1000000");
    }
    // The servers block until their runtimes have ended.
    tokio::task::spawn_blocking(move || drop(servers))
        .await
        .unwrap();
}

/// hyper-util's own graceful shutdown runs first, and then the lingering connections finish.
#[test]
fn graceful_shutdown_lets_the_refused_finish() {
    let (signal, stop) = oneshot::channel::<()>();
    let (tell, ended) = mpsc::channel();
    let server = Server::run(|listener, linger| async move {
        tell.send(gracefully(listener, linger, stop).await).unwrap();
    });
    let upload = SendFirst::post("/early", Framing::ContentLength, LARGE);
    let mut socket = connect(server.addr);
    socket.write_all(upload.head().as_bytes()).unwrap();
    while server.linger.stats().lingering() == 0 {
        std::thread::yield_now();
    }
    signal.send(()).unwrap();
    socket.write_all(&vec![0; LARGE as usize]).unwrap();
    assert_eq!(read_response(&mut socket).unwrap().status, 401);
    drop(socket);
    let ended = ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!((ended.delivered, ended.cut), (1, 0));
}

async fn gracefully(
    listener: TcpListener,
    linger: Linger,
    stop: oneshot::Receiver<()>,
) -> linger::Shutdown {
    let graceful = GracefulShutdown::new();
    let mut signal = std::pin::pin!(linger.on(stop));
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            () = &mut signal => break,
        };
        let (io, service) = linger.wrap(socket, app());
        let service = TowerToHyperService::new(service);
        let builder = auto::Builder::new(TokioExecutor::new());
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
        tokio::spawn(graceful.watch(connection.into_owned()));
    }
    graceful.shutdown().await;
    linger.shutdown(PATIENCE).await
}
