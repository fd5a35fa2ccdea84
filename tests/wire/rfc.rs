//! Requirements of the RFCs for early responses, section by section. A guarantee that has its own
//! file is tested there.
#![cfg(feature = "axum")]

use std::io::{Read, Write};

use axum::{
    Router,
    body::{Body, Bytes},
    http::StatusCode,
    routing::{any, get, post},
};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use testkit::{
    LARGE, MIB, SendFirst,
    client::{Ended, Framing, Response, connect, read_head, read_response, read_to_end},
};

use crate::server::{Server, guarded};

fn early() -> Router {
    Router::new()
        .route(
            "/early",
            any(|| async { (StatusCode::UNAUTHORIZED, "who are you?") }),
        )
        .route("/next", get(|| async { "served" }))
}

const NEXT: &str = "GET /next HTTP/1.1\r\nHost: test\r\n\r\n";

/// "A server MUST NOT send a 100 (Continue) response to an HTTP/1.0 client", even if the handler
/// reads the body.
#[test]
fn rfc9110_10_1_1_no_100_to_http_1_0() {
    for server in Server::both(&guarded(MIB)) {
        let mut socket = connect(server.addr);
        socket
            .write_all(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody")
            .unwrap();
        let (received, _) = read_to_end(&mut socket);
        let (response, rest) = Response::parse(&received).unwrap();
        assert_eq!((response.status, response.body.as_str()), (200, "4"));
        assert_eq!(rest, b"");
    }
}

/// A server that responds with a final status instead of 100 ought to indicate whether it closes
/// the connection or reads the body. This one sends `Connection: close`.
#[test]
fn rfc9110_10_1_1_a_final_status_says_that_it_closes() {
    let server = Server::combined(early());
    let mut socket = connect(server.addr);
    let request =
        SendFirst::post("/early", Framing::ContentLength, 1000).header("Expect: 100-continue");
    socket.write_all(request.head().as_bytes()).unwrap();
    let response = read_response(&mut socket).unwrap();
    assert_eq!(response.status, 401);
    assert_eq!(response.header("connection"), Some("close"));
}

/// 413 "MAY terminate the request": on HTTP/1 the server closes, and sends `Connection: close`.
#[test]
fn rfc9110_15_5_14_content_too_large_closes_if_it_does_not_drain() {
    let server = Server::combined(guarded(MIB));
    for framing in testkit::client::FRAMINGS {
        let response = SendFirst::post("/", framing, LARGE)
            .to(server.addr)
            .assert_delivered(413);
        assert_eq!(response.header("connection"), Some("close"));
    }
    let mut socket = connect(server.addr);
    let upload = SendFirst::post("/", Framing::ContentLength, MIB + 1);
    // The body is one byte above the drain limit of 1 MiB, too.
    upload.write(&mut socket).unwrap();
    let response = read_response(&mut socket).unwrap();
    assert_eq!(response.header("connection"), Some("close"));
}

/// "A server MUST read the entire request message body or close the connection after sending its
/// response": this server reads it.
#[test]
fn rfc9112_9_3_a_body_within_the_drain_is_read() {
    let server = Server::combined(guarded(1000));
    let mut socket = connect(server.addr);
    for _ in 0..3 {
        let upload = SendFirst::post("/", Framing::ContentLength, MIB);
        upload.write(&mut socket).unwrap();
        let response = read_response(&mut socket).unwrap();
        assert_eq!(
            (response.status, response.header("connection")),
            (413, None)
        );
    }
}

/// A request pipelined behind a drained body is served after it, in order.
#[test]
fn rfc9112_9_3_2_a_pipelined_request_behind_a_drained_body_is_served() {
    let server = Server::combined(early());
    let mut socket = connect(server.addr);
    let upload = SendFirst::post("/early", Framing::ContentLength, 100_000);
    upload.write(&mut socket).unwrap();
    let last = NEXT.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    socket.write_all(last.as_bytes()).unwrap();
    let (received, ended) = read_to_end(&mut socket);
    let (first, rest) = Response::parse(&received).unwrap();
    let (second, rest) = Response::parse(rest).unwrap();
    assert_eq!((first.status, second.body.as_str()), (401, "served"));
    assert!(matches!(ended, Ended::Cleanly) && rest.is_empty());
}

/// "A client that sends a close connection option MUST NOT send further requests". A client that
/// does so nevertheless still gets the response it is owed.
#[test]
fn rfc9112_9_6_what_follows_a_clients_close_does_no_harm() {
    for server in Server::both(&early()) {
        let mut socket = connect(server.addr);
        let mut requests = NEXT
            .replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
            .into_bytes();
        // Both requests are in one segment, so that the server reads them together.
        requests.extend(
            SendFirst::post("/early", Framing::ContentLength, LARGE)
                .head()
                .bytes(),
        );
        socket.write_all(&requests).unwrap();
        let zeros = vec![0; 64 * 1024];
        for _ in 0..LARGE / 65536 {
            socket.write_all(&zeros).expect("no write fails");
        }
        let (received, ended) = read_to_end(&mut socket);
        assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
        let (response, rest) = Response::parse(&received).unwrap();
        assert_eq!((response.body.as_str(), rest), ("served", &b""[..]));
    }
}

/// The server half-closes, reads until the client closes, and then closes.
#[test]
fn rfc9112_9_6_close_in_stages() {
    for server in Server::both(&early()) {
        let mut socket = connect(server.addr);
        let upload = SendFirst::post("/early", Framing::ContentLength, LARGE);
        socket.write_all(upload.head().as_bytes()).unwrap();
        let (received, ended) = read_to_end(&mut socket);
        assert_eq!(Response::parse(&received).unwrap().0.status, 401);
        assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
        // The FIN has arrived, and the server still takes everything that the client sends.
        for _ in 0..LARGE / 65536 {
            socket.write_all(&[0; 65536]).expect("the server reads");
        }
        assert_eq!(socket.take_error().unwrap().map(|error| error.kind()), None);
    }
}

/// RFC 9110 §9.3.2: the response to HEAD has no body, and the connection stays in step.
#[test]
fn rfc9110_9_3_2_head_keeps_in_step() {
    let server = Server::combined(guarded(1000).merge(early()));
    let mut socket = connect(server.addr);
    for path in ["/", "/early"] {
        let mut head = SendFirst::post(path, Framing::ContentLength, 100_000);
        head.method = "HEAD";
        head.write(&mut socket).unwrap();
        let text = read_head(&mut socket);
        assert!(text.contains("content-length: "), "{text}");
    }
    socket.write_all(NEXT.as_bytes()).unwrap();
    assert_eq!(read_response(&mut socket).unwrap().body, "served");
}

/// RFC 9112 §7.1.2: trailers pass both layers, and the trailers of a drained body are read.
#[test]
fn rfc9112_7_1_2_trailers_pass() {
    async fn trailer(body: Body) -> String {
        let collected = body.collect().await.unwrap();
        let sum = collected
            .trailers()
            .and_then(|trailers| trailers.get("x-sum"))
            .cloned();
        sum.map_or_else(String::new, |sum| sum.to_str().unwrap().to_owned())
    }
    async fn first(body: Body) {
        drop(body.into_data_stream().next().await);
    }
    let app = guarded(1000)
        .route(
            "/trailer",
            post(trailer).layer(tower_bodyguard::BodyGuardLayer::new(1000)),
        )
        .route("/first", post(first));
    let server = Server::combined(app);
    let mut socket = connect(server.addr);
    for (path, body) in [("/first", ""), ("/trailer", "7"), ("/trailer", "7")] {
        let head = SendFirst::post(path, Framing::Chunked, 0)
            .header("TE: trailers")
            .header("Trailer: X-Sum");
        let request = format!("{}3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n", head.head());
        socket.write_all(request.as_bytes()).unwrap();
        assert_eq!(read_response(&mut socket).unwrap().body, body, "{path}");
    }
}

/// hyper sends the interim responses: 100 for a body that the handler reads, and then the response.
#[test]
fn rfc9110_15_2_an_interim_response_does_not_end_the_exchange() {
    let app = Router::new().route(
        "/",
        post(|body: Bytes| async move { body.len().to_string() }),
    );
    let server = Server::combined(app);
    let mut socket = connect(server.addr);
    for _ in 0..2 {
        let request =
            SendFirst::post("/", Framing::ContentLength, 5).header("Expect: 100-continue");
        socket.write_all(request.head().as_bytes()).unwrap();
        let mut interim = [0; 25];
        socket.read_exact(&mut interim).unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        socket.write_all(b"hello").unwrap();
        assert_eq!(read_response(&mut socket).unwrap().body, "5");
    }
}
