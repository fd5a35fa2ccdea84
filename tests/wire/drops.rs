//! hyper drops a socket without shutting it down after a panic, an error of the service
//! or of a response's body, and a header that does not come in time. What was answered
//! before arrives, to a client that writes 64 MiB before it reads; what broke off does
//! not look whole.
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

/// A response that breaks off after its first words.
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
    panic!("as the test wants it");
}

/// A GET that is answered, then an upload, then everything is read: the first answer,
/// and what follows it.
#[track_caller]
fn behind_an_answer(addr: SocketAddr, path: &'static str) -> Vec<u8> {
    let mut socket = connect(addr);
    let first = b"GET /here HTTP/1.1\r\nHost: test\r\n\r\n";
    socket.write_all(first).unwrap();
    let upload = SendFirst::post(path, Framing::ContentLength, LARGE);
    upload.write(&mut socket).unwrap();
    let (received, ended) = read_to_end(&mut socket);
    assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
    let (response, rest) = Response::parse(&received).expect("the first answer is whole");
    assert_eq!(response.body, "here");
    rest.to_vec()
}

#[test]
fn after_a_panic() {
    for server in Server::both(&app()) {
        assert!(behind_an_answer(server.addr, "/panic").is_empty());
    }
}

#[test]
fn after_an_error_of_a_responses_body() {
    for server in Server::both(&app()) {
        let rest = behind_an_answer(server.addr, "/broken");
        assert!(Response::parse(&rest).is_none(), "it looks whole");
    }
}

/// Of HTTP/1.0 the end of the connection is the end of the response: where the client
/// has sent more, at least, it is a reset, as it is without the hook.
#[test]
fn what_breaks_off_over_http_1_0_does_not_look_whole() {
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
                    "/fails" => Err(io::Error::other("as the test wants it")),
                    _ => Ok(app().oneshot(request).await.unwrap()),
                }
            });
            let (io, service) = linger.wrap(socket, fails);
            let service = TowerToHyperService::new(service);
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(io), service));
        }
    });
    assert!(behind_an_answer(server.addr, "/fails").is_empty());
}

/// Half a head, and no more: the server gives up, and the client is a slow reader.
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

/// The meter measures: without the hook the answer before the panic is lost.
#[test]
fn without_the_hook_they_are_reset() {
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

/// All of the upload is there, and the end of what the client sends behind it. hyper gives
/// up a connection that ends before its answer is there, so that end has to wait. (Of an
/// upload that it reads in one go, hyper sees the end before it asks for an answer.)
#[tokio::test]
async fn a_client_that_closes_its_side_while_an_answer_is_held_back() {
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
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 405 "), "{length}: {answer:?}");
    }
}

/// A long answer that waits for room, while the end of its request is read, and the next
/// request: hyper does not ask for that one's answer when there is room again.
#[tokio::test]
async fn a_request_that_comes_while_the_answer_before_it_waits() {
    let long = Router::new().route("/long", post(|| async { vec![b'.'; 70_000] }));
    for (room, length) in [(1_017, 33_002), (1_128, 33_185), (1_350, 33_551)] {
        let (client, server) = tokio::io::duplex(room);
        let (io, service) = Linger::default().wrap(server, app().merge(long.clone()));
        let service = TowerToHyperService::new(service);
        let serving = http1::Builder::new().serve_connection(TokioIo::new(io), service);
        tokio::spawn(async move { serving.await.unwrap() });

        let (mut answers, mut requests) = tokio::io::split(client);
        let writes = tokio::spawn(async move {
            let head = format!("POST /long HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
            requests.write_all(head.as_bytes()).await.unwrap();
            requests.write_all(&vec![0; length]).await.unwrap();
            let next = b"GET /here HTTP/1.1\r\nConnection: close\r\n\r\n";
            requests.write_all(next).await.unwrap();
            requests
        });
        let mut received = Vec::new();
        let all = answers.read_to_end(&mut received);
        let all = tokio::time::timeout(PATIENCE, all).await;
        all.expect("both are answered").unwrap();
        let (first, rest) = Response::parse(&received).expect("the first is whole");
        assert_eq!((first.status, first.body.len()), (200, 70_000));
        let (next, _) = Response::parse(rest).expect("the second is whole");
        assert_eq!(next.body, "here");
        drop(writes.await.unwrap());
    }
}

/// The client leaves in the midst of a small upload that is answered early: at once, and
/// not when the drain's time is over.
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
    // hyper says that the message was incomplete, which it was.
    let _ = serving.await;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer:?}");
    assert_eq!(start.elapsed(), Duration::ZERO);
}
