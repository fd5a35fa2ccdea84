//! The response to a refused upload is sent immediately. The end of the connection follows when the
//! client has sent its body, or pauses.
#![cfg(all(feature = "axum", feature = "axum-server"))]

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{StatusCode, Version},
    response::IntoResponse,
    routing::post,
};
use axum_server::tls_rustls::RustlsConfig;
use futures_util::stream;
use testkit::{
    SendFirst,
    client::{Ended, Framing, PATIENCE, connect, read_head, read_to_end, write_chunk},
    tls::{Certificate, TlsClient},
};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tower_bodyguard::{Linger, LingerConfig};

use crate::server::Server;

const HALF: usize = 4 << 20;

/// Returns settings with which neither a pause nor a limit ends anything within the test.
fn patient() -> LingerConfig {
    LingerConfig::new()
        .half_close_timeout(4 * PATIENCE)
        .idle_timeout(8 * PATIENCE)
        .timeout(8 * PATIENCE)
}

fn app() -> Router {
    Router::new().route("/", post(|| async { StatusCode::UNAUTHORIZED }))
}

fn combined(config: LingerConfig) -> Server {
    Server::run_with(Linger::new(config), |listener, linger| async move {
        tower_bodyguard::axum::serve(listener, app())
            .with_linger(&linger)
            .await
            .unwrap();
    })
}

fn over_tls(config: LingerConfig, certificate: &Certificate) -> Server {
    app_over_tls(app(), config, certificate)
}

fn app_over_tls(app: Router, config: LingerConfig, certificate: &Certificate) -> Server {
    let tls = RustlsConfig::from_config(certificate.server());
    Server::run_with(Linger::new(config), |listener, linger| async move {
        let listener = listener.into_std().unwrap();
        axum_server::from_tcp_rustls(listener, tls)
            .unwrap()
            .map(|tls| tls.acceptor(linger.acceptor()))
            .serve(app.into_make_service())
            .await
            .unwrap();
    })
}

trait Client: Read + Write {
    fn socket(&self) -> &TcpStream;
}

impl Client for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Client for TlsClient {
    fn socket(&self) -> &TcpStream {
        self.get_ref()
    }
}

fn declared() -> SendFirst {
    SendFirst::post("/", Framing::ContentLength, 2 * HALF as u64)
}

/// Sends the head and half of the body, and reads the response. Returns when the server has dropped
/// the connection, which lingers.
fn refuse(server: &Server, client: &mut impl Client, upload: &SendFirst) {
    let before = server.linger.stats().started;
    client.write_all(upload.head().as_bytes()).unwrap();
    match upload.framing {
        Framing::ContentLength => client.write_all(&[0; HALF]).unwrap(),
        Framing::Chunked => write_chunk(client, &[0; HALF]).unwrap(),
    }
    let head = read_head(client);
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    while server.linger.stats().started == before {
        thread::yield_now();
    }
}

/// Returns whether the server has sent anything more, such as its end.
fn has_more(client: &impl Client) -> bool {
    let socket = client.socket();
    socket.set_nonblocking(true).unwrap();
    let read = socket.peek(&mut [0]);
    socket.set_nonblocking(false).unwrap();
    !matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

fn assert_ends(client: &mut impl Client) {
    let (rest, ended) = read_to_end(client);
    assert!(rest.is_empty(), "{rest:?}");
    assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
}

fn follows_the_declared_body(server: &Server, mut client: impl Client) {
    refuse(server, &mut client, &declared());
    assert!(!has_more(&client), "the half-close did not wait");
    client.write_all(&[0; HALF - 1]).unwrap();
    client.write_all(&[0; 1]).unwrap();
    assert_ends(&mut client);
}

#[test]
fn half_close_follows_the_declared_body() {
    let server = combined(patient());
    follows_the_declared_body(&server, connect(server.addr));
}

#[test]
fn close_notify_and_half_close_follow_the_declared_body() {
    for version in [&TLS12, &TLS13] {
        let certificate = Certificate::new();
        let server = over_tls(patient(), &certificate);
        let client = certificate.client(version).connect(server.addr);
        follows_the_declared_body(&server, client);
    }
}

#[test]
fn half_close_follows_a_pause() {
    for (upload, config) in [
        (
            SendFirst::post("/", Framing::Chunked, 2 * HALF as u64),
            LingerConfig::new(),
        ),
        (declared(), LingerConfig::new()),
    ] {
        let server = combined(config.idle_timeout(8 * PATIENCE));
        let mut client = connect(server.addr);
        refuse(&server, &mut client, &upload);
        assert_ends(&mut client);
        // The server still reads.
        client.write_all(&[0; HALF]).unwrap();
        assert_eq!(server.linger.stats().lingering(), 1);
    }
}

#[test]
fn half_close_is_immediate_if_it_must_not_wait() {
    let server = combined(patient().half_close_timeout(Duration::ZERO));
    let mut client = connect(server.addr);
    refuse(&server, &mut client, &declared());
    assert!(has_more(&client));
    assert_ends(&mut client);

    // The wrapper alone knows no request.
    let server = Server::run_with(Linger::new(patient()), |listener, linger| async move {
        axum::serve(linger.listener(listener), app()).await.unwrap();
    });
    let mut client = connect(server.addr);
    refuse(&server, &mut client, &declared());
    assert_ends(&mut client);

    // hyper responds itself.
    let server = combined(patient());
    let mut client = connect(server.addr);
    client
        .write_all(b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n0000")
        .unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 400 "));
    assert_ends(&mut client);

    // A client that waits for `100 Continue` sends nothing.
    let mut client = connect(server.addr);
    let waits = declared().header("Expect: 100-continue");
    client.write_all(waits.head().as_bytes()).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 401 "));
    assert_ends(&mut client);

    // The response may end with the connection only.
    let mut client = connect(server.addr);
    let old = declared().head().replace("HTTP/1.1", "HTTP/1.0");
    client.write_all(old.as_bytes()).unwrap();
    client.write_all(&[0; HALF]).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.0 401 "));
    assert_ends(&mut client);
}

/// The wrapper beneath TLS cannot see the version.
#[test]
fn response_of_http_1_0_to_a_request_of_http_1_1_is_ended_immediately() {
    let old = || async {
        let mut response =
            Body::from_stream(stream::iter([Ok::<_, io::Error>("no")])).into_response();
        *response.version_mut() = Version::HTTP_10;
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response
    };
    let certificate = Certificate::new();
    let server = app_over_tls(Router::new().route("/", post(old)), patient(), &certificate);
    let mut client = certificate.client(&TLS13).connect(server.addr);
    client.write_all(declared().head().as_bytes()).unwrap();
    client.write_all(&[0; HALF]).unwrap();
    let (response, ended) = read_to_end(&mut client);
    let response = String::from_utf8(response).unwrap();
    assert!(
        response.starts_with("HTTP/1.0 401 ") && response.ends_with("\r\n\r\nno"),
        "{response}"
    );
    assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
}

#[test]
fn half_close_waits_only_briefly_when_slots_are_taken() {
    let server = combined(patient().max_connections(3));
    let mut first = connect(server.addr);
    refuse(&server, &mut first, &declared());
    assert!(!has_more(&first));
    let mut second = connect(server.addr);
    refuse(&server, &mut second, &declared());
    assert_ends(&mut second);
}

#[test]
fn linger_that_reaches_a_limit_ends_with_close_notify_and_half_close() {
    let certificate = Certificate::new();
    let config = patient().timeout(Duration::from_millis(200));
    let server = over_tls(config.extended_timeout(0, None), &certificate);
    let mut client = certificate.client(&TLS13).connect(server.addr);
    refuse(&server, &mut client, &declared());
    assert_ends(&mut client);
}

#[test]
fn client_that_closes_ends_the_wait() {
    let server = combined(patient());
    let mut client = connect(server.addr);
    refuse(&server, &mut client, &declared());
    client.shutdown(Shutdown::Write).unwrap();
    assert_ends(&mut client);
    while server.linger.stats().delivered == 0 {
        thread::yield_now();
    }
}
