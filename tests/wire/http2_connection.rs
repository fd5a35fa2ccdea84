//! HTTP/2: how the connection treats an early response. The connection's end lingers, a response
//! leaves in one piece, and tunnels are left alone.
#![cfg(feature = "axum")]

use std::{convert::Infallible, future::poll_fn, io::Write, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::ws::WebSocketUpgrade,
    http::{Method, Request, StatusCode},
    routing::any,
};
use bytes::Bytes;
use futures_util::stream;
use h2::{Reason, client::SendRequest, ext::Protocol};
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use testkit::{
    MIB,
    client::{Ended, PATIENCE, connect, read_to_end},
};
use tokio::{
    io::duplex,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tower_bodyguard::{Linger, LingerConfig, StreamLinger};

use crate::server::{Server, counting};

/// The client preface of RFC 9113 §3.4 with an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A DATA frame for stream 0, which is a connection error (§6.1).
const FATAL: &[u8] = b"\0\0\0\0\0\0\0\0\0";

const GOAWAY: u8 = 7;

/// Breaks the protocol, keeps sending, and only then reads.
fn break_it(server: &Server) -> (Option<std::io::Error>, Vec<u8>, Ended) {
    let mut socket = connect(server.addr);
    let zeros = vec![0; MIB as usize];
    let mut write = || {
        socket.write_all(PREFACE)?;
        socket.write_all(FATAL)?;
        (0..64).try_for_each(|_| socket.write_all(&zeros))
    };
    let write_error = write().err();
    let (received, ended) = read_to_end(&mut socket);
    (write_error, received, ended)
}

fn has_goaway(mut frames: &[u8]) -> bool {
    while let Some((head, rest)) = frames.split_at_checked(9) {
        if head[3] == GOAWAY {
            return true;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        frames = rest.get(length as usize..).unwrap_or_default();
    }
    false
}

#[test]
fn the_end_of_a_connection_lingers() {
    for server in Server::both(&counting()) {
        let (write_error, received, ended) = break_it(&server);
        assert!(write_error.is_none(), "{write_error:?}");
        assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
        assert!(has_goaway(&received));
    }
}

#[test]
fn without_the_wrapper_the_same_client_is_reset() {
    let (write_error, _, ended) = break_it(&Server::plain(counting()));
    assert!(write_error.is_some() || matches!(ended, Ended::Badly(_)));
}

/// Returns an app that responds 401. The text follows the head after the given milliseconds.
fn late() -> Router {
    async fn response(path: axum::extract::Path<u64>) -> (StatusCode, Body) {
        let words = stream::once(async move {
            sleep(Duration::from_millis(path.0)).await;
            Ok::<_, Infallible>("who are you?")
        });
        (StatusCode::UNAUTHORIZED, Body::from_stream(words))
    }
    Router::new().route("/late/{milliseconds}", any(response))
}

/// Connects through an in-memory pipe. Paused time advances when all tasks wait.
async fn piped(app: Router) -> SendRequest<Bytes> {
    piped_with(&Linger::default(), app, &h2::client::Builder::new()).await
}

async fn piped_with(
    linger: &Linger,
    app: Router,
    client: &h2::client::Builder,
) -> SendRequest<Bytes> {
    let (near, far) = duplex(1 << 20);
    let (io, service) = linger.wrap(far, app);
    let service = TowerToHyperService::new(service);
    let server = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(io), service);
    tokio::spawn(server);
    let (client, connection) = client.handshake(near).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The client accepts no response and fills the connection's window. Its stream has no slot, but
/// the server reads it all the same, because other streams share the connection.
#[tokio::test(start_paused = true)]
async fn a_stream_that_takes_no_response_does_not_starve_others() {
    let linger = Linger::new(LingerConfig::new().stream_linger(StreamLinger::new().max_streams(0)));
    let app = counting().merge(late());
    let mut takes_nothing = h2::client::Builder::new();
    takes_nothing.initial_window_size(0);
    let mut client = piped_with(&linger, app, &takes_nothing).await;

    let refused = Request::post("http://test/late/0").header("content-length", 5 * MIB);
    poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
    let (_response, mut stream) = client
        .send_request(refused.body(()).unwrap(), false)
        .unwrap();
    stream.send_data(vec![0; 3 << 20].into(), false).unwrap();
    sleep(Duration::from_millis(500)).await;

    let begun = Instant::now();
    let other = Request::post("http://test/").body(()).unwrap();
    poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
    let (response, mut stream) = client.send_request(other, false).unwrap();
    stream.send_data(vec![0; 10_000].into(), true).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

/// Behaves like curl 7.88: stops at the head of an error response, and ends its stream short of the
/// declared length.
async fn ends_short(client: &mut SendRequest<Bytes>, path: &str) -> Result<Vec<u8>, h2::Error> {
    let request = Request::post(format!("http://test{path}"))
        .header("content-length", 20 * MIB)
        .body(())
        .unwrap();
    poll_fn(|cx| client.poll_ready(cx)).await?;
    let (response, mut stream) = client.send_request(request, false)?;
    stream.send_data(vec![0; 1000].into(), false)?;
    let mut body = response.await?.into_body();
    stream.send_data(Bytes::new(), true)?;
    let mut response = Vec::new();
    while let Some(part) = body.data().await {
        response.extend_from_slice(&part?);
    }
    Ok(response)
}

#[tokio::test(start_paused = true)]
async fn a_response_leaves_in_one_piece() {
    let mut client = piped(late()).await;
    for path in ["/late/0", "/late/1"] {
        let response = ends_short(&mut client, path).await;
        assert_eq!(response.unwrap(), b"who are you?");
    }
}

/// The connection is held up for no longer than that. Such a client then loses the response: h2
/// resets its stream (RFC 9113 §8.1.1).
#[tokio::test(start_paused = true)]
async fn a_response_that_comes_later_is_not_waited_for() {
    let mut client = piped(late()).await;
    let error = ends_short(&mut client, "/late/100").await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR));
    assert!(ends_short(&mut client, "/late/0").await.is_ok());
}

/// RFC 8441: a tunnel has no content to drain and no end to wait for.
#[tokio::test]
async fn extended_connect_is_left_alone() {
    let app = Router::new().route(
        "/",
        any(|upgrade: WebSocketUpgrade| async {
            upgrade.on_upgrade(|mut socket| async move {
                while let Some(Ok(message)) = socket.recv().await {
                    if socket.send(message).await.is_err() {
                        break;
                    }
                }
            })
        }),
    );
    let start = move || Server::combined(app);
    let server = tokio::task::spawn_blocking(start).await.unwrap();
    let socket = TcpStream::connect(server.addr).await.unwrap();
    let (mut client, mut connection) = h2::client::handshake(socket).await.unwrap();
    let settings = connection.ping_pong().unwrap();
    tokio::spawn(connection);
    round_trip(settings).await;
    assert!(client.is_extended_connect_protocol_enabled());

    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://test/")
        .header("sec-websocket-version", "13")
        .body(())
        .unwrap();
    let protocol = Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
    let (response, mut stream) = client.send_request(request, false).unwrap();
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);

    // A WebSocket text frame with FIN and a mask of zeros. A thousand exceed any linger limit.
    let mut body = response.into_body();
    for _ in 0..1000 {
        stream
            .send_data(Bytes::from_static(b"\x81\x82\0\0\0\0hi"), false)
            .unwrap();
        let echo = timeout(PATIENCE, body.data()).await.unwrap();
        let echo = echo.expect("it is open").expect("it is whole");
        body.flow_control().release_capacity(echo.len()).unwrap();
        assert_eq!(&echo[..], b"\x81\x02hi");
    }
}

/// Waits until everything sent before has arrived, the server's settings included.
async fn round_trip(mut settings: h2::PingPong) {
    let pong = settings.ping(h2::Ping::opaque());
    timeout(PATIENCE, pong).await.unwrap().unwrap();
}
