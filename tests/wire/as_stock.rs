//! Combined mode is never worse than a stock server. It cuts no response that stock delivers, and
//! it keeps the connections that stock keeps. Both servers run side by side here.
#![cfg(feature = "axum")]

use std::{
    convert::Infallible,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};
#[cfg(unix)]
use std::{os::unix::net::UnixStream, path::PathBuf};

use axum::{
    Router,
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use bytes::BytesMut;
use futures_util::{StreamExt, stream};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
#[cfg(unix)]
use tempfile::TempDir;
#[cfg(unix)]
use testkit::client::connect_unix;
use testkit::{
    MIB,
    client::{Ended, Response as Parsed, connect, read_response, read_to_end, write_chunk},
    tls::{Certificate, Connector, TlsClient},
};
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_rustls::rustls::version::TLS13;
use tower_bodyguard::{Drain, Linger, LingerConfig};

use crate::server::Server;

/// Far more than the socket buffers hold.
const LONG: u64 = 16 * MIB;

/// A client that reads steadily reads pieces of this size with this pause. [`LONG`] takes it more
/// than a second.
const PIECE: usize = 192 * 1024;
const PAUSE: Duration = Duration::from_millis(15);

/// Returns timeouts that elapse long before the client has read [`LONG`].
fn short() -> LingerConfig {
    LingerConfig::new()
        .drain(Drain::new().timeout(Duration::from_millis(50)))
        .stall_timeout(Duration::from_millis(400))
}

/// Returns a streamed response of [`LONG`] bytes.
fn long() -> Response {
    let piece = BytesMut::zeroed(64 * 1024).freeze();
    let pieces = LONG / piece.len() as u64;
    let pieces = stream::iter((0..pieces).map(move |_| Ok::<_, Infallible>(piece.clone())));
    Body::from_stream(pieces).into_response()
}

fn app() -> Router {
    Router::new()
        .route("/unread", any(|| async { long() }))
        .route("/partly", any(partly))
        .route("/holds", any(holds))
        .route("/fails", any(fails))
        .route("/early", any(|| async { StatusCode::UNAUTHORIZED }))
        .route("/says", any(says))
        .route(
            "/close",
            get(|| async { ([(header::CONNECTION, "close")], "bye") }),
        )
}

/// Reads one frame and drops the remaining body.
async fn partly(body: Body) -> Response {
    let _ = body.into_data_stream().next().await;
    long()
}

/// Holds the body while the response is in progress, as a reverse proxy does, and then drops it.
async fn holds(body: Body) -> Response {
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(body);
    });
    long()
}

/// Reads until an error occurs, and then sends a long response.
async fn fails(body: Body) -> Response {
    let error = axum::body::to_bytes(body, usize::MAX).await;
    assert!(error.is_err(), "the body is malformed");
    long()
}

/// Reads until an error occurs, and reports it.
async fn says(body: Body) -> String {
    let read = axum::body::to_bytes(body, usize::MAX).await;
    read.map_or("failed", |_| "read").to_owned()
}

trait Socket: Read + Write + Send {
    /// Closes the sending side of the connection.
    fn half_close(&mut self) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn half_close(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

#[cfg(unix)]
impl Socket for UnixStream {
    fn half_close(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Socket for TlsClient {
    fn half_close(&mut self) -> io::Result<()> {
        Self::half_close(self)
    }
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

fn combined(linger: Linger) -> Server {
    Server::run_with(linger, |listener, linger| async move {
        tower_bodyguard::axum::serve(listener, app())
            .with_linger(&linger)
            .await
            .unwrap();
    })
}

/// Runs hyper over rustls, with or without this crate beneath.
fn over_tls(certificate: &Certificate, linger: Option<Linger>) -> Server {
    let acceptor = certificate.acceptor();
    Server::run(move |listener: TcpListener, _| async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (acceptor, linger) = (acceptor.clone(), linger.clone());
            tokio::spawn(async move {
                let app = app().with_state(());
                match linger {
                    Some(linger) => {
                        let (io, service) = linger.wrap(socket, app);
                        let io = TokioIo::new(acceptor.accept(io).await.unwrap());
                        let service = TowerToHyperService::new(service);
                        let _ = http1::Builder::new().serve_connection(io, service).await;
                    }
                    None => {
                        let io = TokioIo::new(acceptor.accept(socket).await.unwrap());
                        let service = TowerToHyperService::new(app);
                        let _ = http1::Builder::new().serve_connection(io, service).await;
                    }
                }
            });
        }
    })
}

#[cfg(unix)]
fn over_unix(linger: Option<Linger>) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let name = match linger {
        Some(_) => "combined, Unix",
        None => "stock, Unix",
    };
    let server = Server::run(|_, _| {
        let listener = UnixListener::bind(&path).unwrap();
        async move {
            match linger {
                Some(linger) => tower_bodyguard::axum::serve(listener, app())
                    .with_linger(&linger)
                    .await
                    .unwrap(),
                None => axum::serve(listener, app()).await.unwrap(),
            }
        }
    });
    Served {
        name,
        server,
        way: Way::Unix {
            path,
            _folder: folder,
        },
    }
}

fn stock_and_combined(linger: &Linger) -> Vec<Served> {
    let certificate = Certificate::new();
    let tcp = |name, server| Served {
        name,
        server,
        way: Way::Tcp,
    };
    let tls = |name, linger| Served {
        name,
        server: over_tls(&certificate, linger),
        way: Way::Tls(certificate.client(&TLS13)),
    };
    vec![
        tcp("stock, TCP", Server::plain(app())),
        tcp("combined, TCP", combined(linger.clone())),
        tls("stock, TLS", None),
        tls("combined, TLS", Some(linger.clone())),
        #[cfg(unix)]
        over_unix(None),
        #[cfg(unix)]
        over_unix(Some(linger.clone())),
    ]
}

/// Reads in pieces and pauses before each one. `meanwhile` runs between the reads
/// and may send.
fn read_steadily(socket: &mut dyn Socket, mut meanwhile: impl FnMut(&mut dyn Socket)) -> Vec<u8> {
    let mut received = Vec::new();
    let mut piece = vec![0; PIECE];
    while !received.ends_with(b"\r\n0\r\n\r\n") {
        meanwhile(socket);
        thread::sleep(PAUSE);
        // A TLS read returns at most one record.
        let mut left = PIECE;
        while left > 0 {
            match socket.read(&mut piece[..left]) {
                Ok(0) | Err(_) => return received,
                Ok(read) => {
                    received.extend_from_slice(&piece[..read]);
                    left -= read;
                }
            }
            if received.ends_with(b"\r\n0\r\n\r\n") {
                break;
            }
        }
    }
    received
}

#[track_caller]
fn assert_long(received: &[u8]) {
    let parsed = Parsed::parse(received);
    let length = parsed.map(|(response, _)| response.content.len() as u64);
    assert_eq!(length, Some(LONG), "of {} bytes", received.len());
}

fn head(path: &str, framing: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n")
}

/// A request that stays unfinished while its response is read: the path, the framing, the first
/// bytes of the body, and the bytes sent between any two reads.
type Unfinished = (&'static str, &'static str, &'static [u8], &'static [u8]);

const UNFINISHED: [Unfinished; 5] = [
    ("/unread", "Content-Length: 1000", b"five.", b""),
    (
        "/partly",
        "Transfer-Encoding: chunked",
        b"5\r\nfive.\r\n",
        b"",
    ),
    (
        "/partly",
        "Transfer-Encoding: chunked",
        b"5\r\nfive.\r\n",
        b"1\r\n.\r\n",
    ),
    (
        "/unread",
        "Transfer-Encoding: chunked",
        b"5\r\nfive.\r\n",
        b"1\r\n.\r\n",
    ),
    ("/holds", "Content-Length: 8000000", b"five.", &[b'.'; 1500]),
];

fn read_unfinished(served: &Served, case: &Unfinished) -> Vec<u8> {
    let (path, framing, begin, meanwhile) = *case;
    let mut socket = served.connect();
    // One write sends both: stock resets a connection whose socket holds unread bytes.
    let request = [head(path, framing).as_bytes(), begin].concat();
    socket.write_all(&request).unwrap();
    read_steadily(&mut *socket, |socket| {
        // A server that does not read these bytes may have closed its side of the connection.
        let _ = socket.write_all(meanwhile);
    })
}

#[test]
fn long_response_that_is_read_steadily_is_never_cut() {
    let servers = stock_and_combined(&Linger::new(short()));
    thread::scope(|scope| {
        for served in &servers {
            for case in &UNFINISHED {
                // When stock closes, these bytes are unread, so it resets the end of the response.
                if served.name.starts_with("stock") && !case.3.is_empty() {
                    continue;
                }
                scope.spawn(move || {
                    let received = read_unfinished(served, case);
                    let (path, framing, _, meanwhile) = case;
                    println!(
                        "{}, {path}, {framing}, {} bytes between reads: {} bytes of response",
                        served.name,
                        meanwhile.len(),
                        received.len(),
                    );
                    assert_long(&received);
                });
            }
        }
    });
}

/// The end of the shutdown's grace period does not cut a response that is read steadily, either.
#[test]
fn long_response_that_is_read_steadily_outlives_the_grace() {
    let linger = Linger::new(short().shutdown_timeout(Duration::from_millis(100)));
    let (stop, stopped) = oneshot::channel::<()>();
    let (ended, has_ended) = oneshot::channel();
    let server = Server::run_with(linger, |listener, linger| async move {
        let signal = async {
            let _ = stopped.await;
        };
        tower_bodyguard::axum::serve(listener, app())
            .with_linger(&linger)
            .with_graceful_shutdown(signal)
            .await
            .unwrap();
        let _ = ended.send(());
    });
    let mut stop = Some(stop);
    let mut reads = 0;
    let mut socket = connect(server.addr);
    socket
        .write_all(head("/unread", "Content-Length: 1000").as_bytes())
        .unwrap();
    socket.write_all(b"five.").unwrap();
    let received = read_steadily(&mut socket, |_| {
        // The connection has been accepted by the second read.
        if reads == 1 {
            stop.take().unwrap().send(()).unwrap();
        }
        reads += 1;
    });
    assert_long(&received);
    drop(socket);
    has_ended.blocking_recv().unwrap();
}

/// This response is cut, because it makes no progress and nothing waits for it.
#[test]
fn long_response_to_a_client_that_only_sends_is_cut() {
    let server = combined(Linger::new(short()));
    let mut socket = connect(server.addr);
    let framing = "Transfer-Encoding: chunked";
    socket
        .write_all(head("/partly", framing).as_bytes())
        .unwrap();
    let mut chunk = Vec::new();
    write_chunk(&mut chunk, &[b'.'; 1000]).unwrap();
    let error = loop {
        if let Err(error) = socket.write_all(&chunk) {
            break error;
        }
        thread::sleep(Duration::from_millis(5));
    };
    // A write that timed out in the client would be another kind of error.
    let is_cut = matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    );
    assert!(is_cut, "{error}");
}

/// Linux reports a socket as writable only when a third of its buffer is free. For this client,
/// that takes longer than the stall timeout.
#[cfg(target_os = "linux")]
#[test]
fn long_response_that_is_read_slowly_is_never_cut() {
    let server = combined(Linger::new(short()));
    let mut socket = connect(server.addr);
    let framing = "Transfer-Encoding: chunked";
    let request = head("/partly", framing) + "5\r\nfive.\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    let mut received = vec![0; 100 * 16 * 1024];
    for piece in received.chunks_mut(16 * 1024) {
        socket.write_all(b"1\r\n.\r\n").unwrap();
        thread::sleep(Duration::from_millis(30));
        socket.read_exact(piece).unwrap();
    }
    received.extend(read_steadily(&mut socket, |_| {}));
    assert_long(&received);
}

/// The client sends a whole request, closes its side of the connection, and only then reads.
#[test]
fn client_that_half_closes_gets_what_a_stock_server_sends() {
    let servers = stock_and_combined(&Linger::default());
    let requests = ["Content-Length", "Transfer-Encoding"].map(|framing| {
        [1000, 20_000, 100_000, 400_000].map(|length| {
            let mut request = Vec::new();
            if framing == "Content-Length" {
                let head = head("/early", &format!("Content-Length: {length}"));
                request.extend(head.as_bytes());
                request.resize(request.len() + length, b'.');
            } else {
                request.extend(head("/early", "Transfer-Encoding: chunked").as_bytes());
                write_chunk(&mut request, &vec![b'.'; length]).unwrap();
                request.extend(b"0\r\n\r\n");
            }
            request
        })
    });
    for request in requests.iter().flatten() {
        let arrived: Vec<_> = servers
            .iter()
            .map(|served| {
                let arrives = || {
                    let mut socket = served.connect();
                    // A server may have reset the connection by now.
                    let _ = socket.write_all(request).and_then(|()| socket.half_close());
                    read_response(&mut socket).is_ok_and(|response| response.status == 401)
                };
                (0..10).filter(|_| arrives()).count()
            })
            .collect();
        println!("{} bytes: {arrived:?} of 10", request.len());
        for pair in arrived.chunks_exact(2) {
            // If stock loses some responses, its close races with the rest of the request.
            let (stock, combined) = (pair[0], pair[1]);
            assert!(
                combined == 10 || stock < 10,
                "{arrived:?}, stock and combined in turn"
            );
        }
    }
}

#[test]
fn small_chunked_body_that_came_whole_keeps_the_connection() {
    for served in stock_and_combined(&Linger::default()) {
        let mut socket = served.connect();
        for number in 0..10 {
            let request = head("/early", "Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n";
            socket.write_all(request.as_bytes()).unwrap();
            let response = read_response(&mut socket).unwrap();
            assert_eq!(response.status, 401, "{number}");
            assert_eq!(response.header("connection"), None, "{number}");
        }
    }
}

#[test]
fn chunked_body_that_did_not_come_whole_closes_the_connection() {
    for served in stock_and_combined(&Linger::default()) {
        let mut socket = served.connect();
        let request = head("/early", "Transfer-Encoding: chunked") + "5\r\nhello\r\n";
        socket.write_all(request.as_bytes()).unwrap();
        let (received, ended) = read_to_end(&mut socket);
        assert_eq!(Parsed::parse(&received).unwrap().0.status, 401);
        if served.name.starts_with("combined") {
            assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
            let says = String::from_utf8_lossy(&received).contains("connection: close");
            assert!(says, "{}", served.name);
        }
    }
}

#[test]
fn http10_connection_that_is_to_be_kept_is_kept() {
    for served in stock_and_combined(&Linger::default()) {
        let mut socket = served.connect();
        for _ in 0..3 {
            let request = b"POST /early HTTP/1.0\r\nConnection: keep-alive\r\n\
                Content-Length: 5\r\n\r\nhello";
            socket.write_all(request).unwrap();
            assert_eq!(read_response(&mut socket).unwrap().status, 401);
        }
    }
}

/// Reads the response to the end of the connection, and then sends another request in two segments.
/// Returns whether a write fails.
fn is_broken_behind(server: SocketAddr, request: &[u8]) -> bool {
    let mut socket = connect(server);
    socket.set_nodelay(true).unwrap();
    socket.write_all(request).unwrap();
    let (received, _) = read_to_end(&mut socket);
    assert!(received.starts_with(b"HTTP/1.1 200 "), "{received:?}");
    let segments = [&b"POST /early HTTP/1.1\r\nHost: test\r\n"[..], b"\r\n"];
    segments
        .iter()
        .any(|segment| socket.write_all(segment).is_err())
}

#[test]
fn request_behind_a_close_of_the_servers_meets_no_broken_pipe() {
    let request = b"GET /close HTTP/1.1\r\nHost: test\r\n\r\n";
    let stock = Server::plain(app());
    // It is a race whether the reset comes between the two segments.
    assert!((0..500).any(|_| is_broken_behind(stock.addr, request)));
    let combined = combined(Linger::default());
    for _ in 0..50 {
        assert!(!is_broken_behind(combined.addr, request));
    }
}

/// Sends 32 MiB after `request`, and only then reads.
fn send_first(server: SocketAddr, request: &str) -> Vec<u8> {
    let mut socket = connect(server);
    socket.write_all(request.as_bytes()).unwrap();
    let data = vec![b'.'; 1 << 20];
    for _ in 0..32 {
        socket.write_all(&data).expect("no write fails");
    }
    let mut received = Vec::new();
    let mut piece = vec![0; PIECE];
    while !received.ends_with(b"\r\n0\r\n\r\n") {
        let read = socket.read(&mut piece).expect("the response continues");
        assert_ne!(read, 0, "the response is whole");
        received.extend_from_slice(&piece[..read]);
    }
    received
}

#[test]
fn client_that_sends_first_gets_a_long_response_though_it_expects_to_be_told() {
    let server = combined(Linger::default());
    let framing = format!("Content-Length: {}\r\nExpect: 100-continue", 32 * MIB);
    assert_long(&send_first(server.addr, &head("/holds", &framing)));
}

#[test]
fn client_that_sends_first_gets_a_long_response_to_a_malformed_body() {
    let server = combined(Linger::default());
    let request = head("/fails", "Transfer-Encoding: chunked") + "no size\r\n";
    assert_long(&send_first(server.addr, &request));
}

#[test]
fn response_to_a_failed_body_says_close() {
    let trailers = format!("0\r\n{}\r\n", "A: b\r\n".repeat(10_000));
    let malformed = [
        "no size\r\n",
        "fffffffffffffffff\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        &trailers,
    ];
    let (stock, combined) = (Server::plain(app()), combined(Linger::default()));
    for body in malformed {
        let says_close = |server: &Server| {
            let mut socket = connect(server.addr);
            let request = head("/says", "Transfer-Encoding: chunked") + body;
            socket.write_all(request.as_bytes()).unwrap();
            let (received, ended) = read_to_end(&mut socket);
            let (response, _) = Parsed::parse(&received).unwrap();
            assert_eq!(response.body, "failed");
            (response.header("connection") == Some("close"), ended)
        };
        assert!(!says_close(&stock).0, "hyper says it itself by now");
        let (says, ended) = says_close(&combined);
        assert!(says, "{body:.20}");
        assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
    }
}
