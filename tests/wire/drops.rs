//! hyper drops a socket without shutting it down in three cases:
//! - after a panic,
//! - after an error of the service or of a response body,
//! - when a request head does not arrive in time.
//!
//! Responses sent before that must arrive, even if the client writes 64 MiB before it reads. An
//! aborted response must not look whole.
#![cfg(feature = "axum")]

use std::{
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    routing::{get, post},
};
use futures_util::stream;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use testkit::{
    Ended, LARGE, SendFirst,
    client::{Framing, PATIENCE, Response, connect, read_to_end},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::{ServiceExt, service_fn};
use tower_bodyguard::Linger;

use crate::server::Server;

/// Returns a response body that fails after its first words.
async fn broken() -> Body {
    let words = [Ok("as far as "), Err(io::Error::other("broken"))];
    Body::from_stream(stream::iter(words))
}

fn app() -> Router {
    Router::new()
        .route("/here", get(|| async { "here" }))
        .route("/broken", post(broken).get(broken))
        .route("/panic", post(panics))
}

async fn panics() {
    panic!("deliberate failure");
}

/// Sends a GET whose response arrives, then an upload, and then reads everything. Checks the first
/// response and returns what follows it.
#[track_caller]
fn behind_a_response(addr: SocketAddr, path: &'static str) -> Vec<u8> {
    let mut socket = connect(addr);
    let first = b"GET /here HTTP/1.1\r\nHost: test\r\n\r\n";
    socket.write_all(first).unwrap();
    let upload = SendFirst::post(path, Framing::ContentLength, LARGE);
    upload.write(&mut socket).unwrap();
    let (received, ended) = read_to_end(&mut socket);
    assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
    let (response, rest) = Response::parse(&received).expect("the first response is whole");
    assert_eq!(response.body, "here");
    rest.to_vec()
}

#[test]
fn after_a_panic() {
    for server in Server::both(&app()) {
        assert!(behind_a_response(server.addr, "/panic").is_empty());
    }
}

#[test]
fn after_an_error_of_a_responses_body() {
    for server in Server::both(&app()) {
        let rest = behind_a_response(server.addr, "/broken");
        assert!(Response::parse(&rest).is_none(), "it looks whole");
    }
}

/// In HTTP/1.0 the end of the connection ends the response. If the client has sent more, the server
/// must reset the connection, as it does without `LingerIo`.
#[test]
fn aborted_response_over_http_1_0_does_not_look_whole() {
    for server in Server::both(&app()) {
        let mut socket = connect(server.addr);
        let head = format!("POST /broken HTTP/1.0\r\nContent-Length: {LARGE}\r\n\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        let sent = socket.write_all(&vec![0; LARGE as usize]);
        let (_, ended) = read_to_end(&mut socket);
        assert!(
            sent.is_err() || matches!(ended, Ended::Badly(_)),
            "{ended:?}"
        );
    }
}

#[test]
fn after_an_error_of_the_service() {
    let server = Server::run(|listener, linger| async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let fails = service_fn(|request: Request<_>| async {
                match request.uri().path() {
                    "/fails" => Err(io::Error::other("deliberate failure")),
                    _ => Ok(app().oneshot(request).await.unwrap()),
                }
            });
            let (io, service) = linger.wrap(socket, fails);
            let service = TowerToHyperService::new(service);
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(io), service));
        }
    });
    assert!(behind_a_response(server.addr, "/fails").is_empty());
}

/// The client sends half a head, so the server times out. The client reads slowly.
#[test]
fn after_a_header_timeout() {
    let server = Server::run(|listener, linger| async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (io, service) = linger.wrap(socket, app());
            let service = TowerToHyperService::new(service);
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_millis(50))
                .serve_connection(TokioIo::new(io), service);
            tokio::spawn(connection);
        }
    });
    let mut socket = connect(server.addr);
    socket
        .write_all(b"GET /here HTTP/1.1\r\nHost: test\r\n\r\nGET /he")
        .unwrap();
    while server.linger.stats().lingering() == 0 {
        std::thread::yield_now();
    }
    socket.write_all(&vec![0; LARGE as usize]).unwrap();
    let (received, ended) = read_to_end(&mut socket);
    assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
    let (response, _) = Response::parse(&received).expect("it is whole");
    assert_eq!(response.body, "here");
}

/// Negative control: without `LingerIo`, the response before the panic is lost.
#[test]
fn without_the_wrapper_they_are_reset() {
    let server = Server::plain(app());
    let mut socket = connect(server.addr);
    socket
        .write_all(b"GET /here HTTP/1.1\r\nHost: test\r\n\r\n")
        .unwrap();
    let upload = SendFirst::post("/panic", Framing::ContentLength, LARGE);
    let sent = upload.write(&mut socket);
    let (_, ended) = read_to_end(&mut socket);
    assert!(sent.is_err() || matches!(ended, Ended::Badly(_)));
}

/// The whole upload has arrived, and so has the client's FIN. hyper aborts a connection that ends
/// before its response is ready, so `LingerIo` must hold the FIN back. (If hyper reads the upload
/// in one go, it sees the FIN before it polls for a response.)
#[tokio::test]
async fn a_client_that_closes_its_side_while_a_response_is_held_back() {
    for length in [20_000, 100_000, 1 << 20] {
        let (mut client, server) = tokio::io::duplex(2 << 20);
        let head = format!("POST /here HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&vec![0; length]).await.unwrap();
        client.shutdown().await.unwrap();

        let (io, service) = Linger::default().wrap(server, app());
        let service = TowerToHyperService::new(service);
        let serving = http1::Builder::new().serve_connection(TokioIo::new(io), service);
        serving.await.unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        assert!(
            response.starts_with("HTTP/1.1 405 "),
            "{length}: {response:?}"
        );
    }
}

/// A long response waits for room in the socket while hyper reads the end of its request and the
/// next request. When there is room again, hyper does not poll for the second response by itself.
#[tokio::test]
async fn a_request_that_comes_while_the_response_before_it_waits() {
    let long = Router::new().route("/long", post(|| async { vec![b'.'; 70_000] }));
    for (room, length) in [(1_017, 33_002), (1_128, 33_185), (1_350, 33_551)] {
        let (client, server) = tokio::io::duplex(room);
        let (io, service) = Linger::default().wrap(server, app().merge(long.clone()));
        let service = TowerToHyperService::new(service);
        let serving = http1::Builder::new().serve_connection(TokioIo::new(io), service);
        tokio::spawn(async move { serving.await.unwrap() });

        let (mut responses, mut requests) = tokio::io::split(client);
        let writes = tokio::spawn(async move {
            let head = format!("POST /long HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
            requests.write_all(head.as_bytes()).await.unwrap();
            requests.write_all(&vec![0; length]).await.unwrap();
            let next = b"GET /here HTTP/1.1\r\nConnection: close\r\n\r\n";
            requests.write_all(next).await.unwrap();
            requests
        });
        let mut received = Vec::new();
        let all = responses.read_to_end(&mut received);
        let all = tokio::time::timeout(PATIENCE, all).await;
        all.expect("both responses arrive").unwrap();
        let (first, rest) = Response::parse(&received).expect("the first is whole");
        assert_eq!((first.status, first.body.len()), (200, 70_000));
        let (next, _) = Response::parse(rest).expect("the second is whole");
        assert_eq!(next.body, "here");
        drop(writes.await.unwrap());
    }
}

/// The client leaves in the middle of a small upload that gets an early response. The server closes
/// immediately and does not wait for the drain timeout.
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_mid_body_is_not_waited_for() {
    let (mut client, server) = tokio::io::duplex(2 << 20);
    let head = b"POST /here HTTP/1.1\r\nContent-Length: 100\r\n\r\n";
    client.write_all(head).await.unwrap();
    client.write_all(&[0; 50]).await.unwrap();
    client.shutdown().await.unwrap();

    let start = tokio::time::Instant::now();
    let (io, service) = Linger::default().wrap(server, app());
    let service = TowerToHyperService::new(service);
    let serving = http1::Builder::new().serve_connection(TokioIo::new(io), service);
    // hyper reports an incomplete message, which is correct.
    let _ = serving.await;
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 405 "), "{response:?}");
    assert_eq!(start.elapsed(), Duration::ZERO);
}
