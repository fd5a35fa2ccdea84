//! Checks the claims of the README and the pages in `docs/` about other crates. If a test fails
//! here, a page is out of date. `stock.rs` tests a stock server on the wire.
#![cfg(all(feature = "axum", feature = "axum-server", feature = "tonic"))]

use std::{
    convert::Infallible,
    future::{self, poll_fn},
};

use axum::{
    Form, Json, RequestExt, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Multipart, Request, multipart::MultipartError},
    http::{Response, StatusCode, header::CONTENT_TYPE},
    routing::post,
};
use futures_util::{StreamExt, stream};
use h2::{Reason, client::SendRequest};
use http_body_util::{BodyExt, Full};
use hyper::server::conn::{http1, http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use testkit::{
    LARGE, SendFirst,
    client::{FRAMINGS, Framing, PATIENCE},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use tonic::{service::Routes, transport::server::TcpIncoming};
use tower::{Layer, ServiceExt, service_fn};
use tower_http::{body::Limited, limit::RequestBodyLimitLayer};

use crate::server::Server;

const KIB: usize = 1024;

/// A path of [`extractors`], and the content type that its extractor requires.
const EXTRACTORS: [(&str, &str); 5] = [
    ("/bytes", "text/plain"),
    ("/string", "text/plain"),
    ("/json", "application/json"),
    ("/form", "application/x-www-form-urlencoded"),
    ("/multipart", "multipart/form-data; boundary=xyz"),
];

fn extractors() -> Router {
    async fn multipart(mut form: Multipart) -> Result<(), MultipartError> {
        while let Some(field) = form.next_field().await? {
            field.bytes().await?;
        }
        Ok(())
    }
    Router::new()
        .route("/bytes", post(|_: Bytes| async {}))
        .route("/string", post(|_: String| async {}))
        .route("/json", post(|_: Json<Vec<u8>>| async {}))
        .route("/form", post(|_: Form<Vec<(String, String)>>| async {}))
        .route("/multipart", post(multipart))
        .route("/swallow", post(swallow))
        .route("/echo", post(|body: Body| async { until_error(body) }))
        .route(
            "/limited-echo",
            post(|request: Request| async { until_error(request.into_limited_body()) }),
        )
}

/// Takes an error for the end of the body, as a careless handler does.
async fn swallow(body: Body) -> String {
    let collected = until_error(body).collect().await;
    collected.map_or_else(|_| String::new(), |body| body.to_bytes().len().to_string())
}

fn until_error(body: Body) -> Body {
    let data = body.into_data_stream();
    Body::from_stream(data.take_while(|data| future::ready(data.is_ok())))
}

/// Returns a form with one unterminated file, in frames of 1 KiB and without a declared length.
fn streamed(length: usize) -> Body {
    let head = "--xyz\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n";
    let frames = (0..length / KIB).map(move |n| match n {
        0 => format!("{head:0<KIB$}"),
        _ => "0".repeat(KIB),
    });
    Body::from_stream(stream::iter(frames.map(Ok::<_, Infallible>)))
}

async fn send(app: &Router, path: &str, kind: &str, body: Body) -> Response<Body> {
    let request = Request::post(path).header(CONTENT_TYPE, kind);
    let request = request.body(body).unwrap();
    app.clone().oneshot(request).await.unwrap()
}

async fn text(response: Response<Body>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.into()).unwrap()
}

/// Returns the response status of each extractor for a body over tower-http's limit.
async fn statuses(app: &Router) -> [(&'static str, u16); 5] {
    let mut statuses = EXTRACTORS.map(|(path, _)| (path, 0));
    for ((_, status), (path, kind)) in statuses.iter_mut().zip(EXTRACTORS) {
        let response = send(app, path, kind, streamed(200 * KIB)).await;
        *status = response.status().as_u16();
    }
    statuses
}

/// The first snippet of `docs/MIGRATING.md`.
#[tokio::test]
async fn tower_http_limit_over_while_streaming_is_413_by_the_extractor() {
    let app = extractors()
        .layer(DefaultBodyLimit::disable())
        .layer(RequestBodyLimitLayer::new(100 * KIB));
    let expected = EXTRACTORS.map(|(path, _)| (path, 413));
    assert_eq!(statuses(&app).await, expected);
}

/// The same snippet without its `DefaultBodyLimit::disable()`.
#[tokio::test]
async fn tower_http_limit_with_axums_default_limit_is_500_by_multipart() {
    let app = extractors().layer(RequestBodyLimitLayer::new(100 * KIB));
    let expected = EXTRACTORS.map(|(path, _)| (path, if path == "/multipart" { 500 } else { 413 }));
    assert_eq!(statuses(&app).await, expected);
}

#[tokio::test]
async fn tower_http_limit_over_by_length_responds_without_calling_the_service() {
    let uncalled = service_fn(|_: Request<Limited<Full<Bytes>>>| async {
        unreachable!("the length is too large") as Result<Response<Full<Bytes>>, Infallible>
    });
    let limited = RequestBodyLimitLayer::new(10).layer(uncalled);
    let request = Request::post("/").header("content-length", 11);
    let request = request.body(Full::from(&[0; 11][..])).unwrap();
    let response = limited.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "length limit exceeded");
}

#[tokio::test]
async fn tower_http_limit_with_a_handler_that_swallows_the_error_responds_200() {
    let app = extractors().layer(RequestBodyLimitLayer::new(100 * KIB));
    let response = send(&app, "/swallow", "text/plain", streamed(200 * KIB)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await, (100 * KIB).to_string());
}

#[tokio::test]
async fn axums_limit_bounds_only_the_extractors_that_ask_for_it() {
    let app = extractors().layer(DefaultBodyLimit::max(100 * KIB));
    let response = send(&app, "/swallow", "text/plain", streamed(200 * KIB)).await;
    assert_eq!(text(response).await, (200 * KIB).to_string());
    for (path, kind) in EXTRACTORS {
        let response = send(&app, path, kind, streamed(200 * KIB)).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        let mut request = Request::post(path).header(CONTENT_TYPE, kind);
        request = request.header("content-length", 200 * KIB);
        let request = request.body(streamed(200 * KIB)).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE, "{path}");
    }
}

#[tokio::test]
async fn axums_limit_is_2_mib_unless_it_is_set() {
    let app = extractors();
    let of = |length| send(&app, "/bytes", "text/plain", streamed(length));
    assert_eq!(of(2 * KIB * KIB).await.status(), StatusCode::OK);
    let refused = of(2 * KIB * KIB + KIB).await;
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn nested_limits_the_smaller_of_tower_http_and_the_innermost_of_axum_hold() {
    for (inner, outer) in [(100, 200), (200, 100)] {
        let app = extractors()
            .layer(RequestBodyLimitLayer::new(inner * KIB))
            .layer(RequestBodyLimitLayer::new(outer * KIB));
        let response = send(&app, "/swallow", "text/plain", streamed(300 * KIB)).await;
        assert_eq!(text(response).await, (100 * KIB).to_string());

        let app = extractors()
            .layer(DefaultBodyLimit::max(inner * KIB))
            .layer(DefaultBodyLimit::max(outer * KIB));
        let of = |length| send(&app, "/bytes", "text/plain", streamed(length));
        assert_eq!(of(inner * KIB).await.status(), StatusCode::OK);
        let refused = of((inner + 1) * KIB).await;
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}

/// The client takes the partial response for a whole one. This crate aborts it
/// (`g4_status::a_response_in_progress_is_aborted`).
#[tokio::test]
async fn a_response_in_progress_ends_as_the_handler_ends_it() {
    let by_tower_http = extractors().layer(RequestBodyLimitLayer::new(100 * KIB));
    let by_axum = extractors().layer(DefaultBodyLimit::max(100 * KIB));
    for (app, path) in [(by_tower_http, "/echo"), (by_axum, "/limited-echo")] {
        let response = send(&app, path, "text/plain", streamed(200 * KIB)).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(text(response).await.len(), 100 * KIB, "{path}");
    }
}

/// `g1_response_arrives::without_the_wrapper_the_same_clients_are_reset` tests the same for tower-http's
/// limit.
#[test]
fn axums_limit_over_while_the_client_sends_is_a_reset() {
    let server = Server::plain(extractors());
    for framing in FRAMINGS {
        let outcome = SendFirst::post("/bytes", framing, LARGE).to(server.addr);
        assert!(outcome.was_reset(), "{outcome:?}");
    }
}

fn early() -> Router {
    Router::new().route("/", post(|| async { StatusCode::UNAUTHORIZED }))
}

fn by_hyper(serve: impl Fn(TokioIo<TcpStream>) + Send + Sync + 'static) -> Server {
    Server::run(move |listener, _| async move {
        loop {
            serve(TokioIo::new(listener.accept().await.unwrap().0));
        }
    })
}

/// `stock.rs` tests axum's own server and Unix sockets.
#[test]
fn servers_on_hyper_reset_a_client_that_sends_first() {
    let servers = [
        (
            "hyper",
            by_hyper(|io| {
                let service = TowerToHyperService::new(early());
                tokio::spawn(http1::Builder::new().serve_connection(io, service));
            }),
        ),
        (
            "hyper-util",
            by_hyper(|io| {
                tokio::spawn(async {
                    let service = TowerToHyperService::new(early());
                    let builder = auto::Builder::new(TokioExecutor::new());
                    // The client asserts how the connection ended.
                    let _ = builder.serve_connection(io, service).await;
                });
            }),
        ),
        (
            "axum-server",
            Server::run(|listener, _| async move {
                let server = axum_server::from_tcp(listener.into_std().unwrap()).unwrap();
                server.serve(early().into_make_service()).await.unwrap();
            }),
        ),
        (
            "tonic",
            Server::run(|listener, _| async move {
                let mut server = tonic::transport::Server::builder().accept_http1(true);
                let routed = server.add_routes(Routes::from(early()));
                let incoming = TcpIncoming::from(listener);
                routed.serve_with_incoming(incoming).await.unwrap();
            }),
        ),
    ];
    for (name, server) in servers {
        let outcome = SendFirst::post("/", Framing::ContentLength, LARGE).to(server.addr);
        assert!(outcome.was_reset(), "{name}: {outcome:?}");
    }
}

/// Connects to a stock hyper server over HTTP/2. Also returns the reason that ends the connection.
async fn connect_http2(server: &Server) -> (SendRequest<Bytes>, JoinHandle<Option<Reason>>) {
    let socket = TcpStream::connect(server.addr).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    let ended = tokio::spawn(async { connection.await.err()?.reason() });
    (client, ended)
}

async fn by_hyper_http2(app: impl Fn() -> Router + Send + Sync + 'static) -> Server {
    let start = move || {
        by_hyper(move |io| {
            let service = TowerToHyperService::new(app());
            let builder = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(io, service));
        })
    };
    spawn_blocking(start).await.unwrap()
}

/// Sends its number when it is dropped.
struct Received(usize, mpsc::UnboundedSender<usize>);

impl Drop for Received {
    fn drop(&mut self) {
        let _ = self.1.send(self.0);
    }
}

/// `serve` passes a body with a declared length to a router without counting it.
#[tokio::test]
async fn hyper_body_yields_no_more_than_its_content_length() {
    let (seen, mut bodies) = mpsc::unbounded_channel();
    let app = move || {
        let seen = seen.clone();
        let count = |mut body: Body| async move {
            // hyper may drop the handler when the stream is reset.
            let mut received = Received(0, seen);
            while let Some(Ok(frame)) = body.frame().await {
                received.0 += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        Router::new().route("/", post(count))
    };

    let served = app.clone();
    let start = move || {
        by_hyper(move |io| {
            let service = TowerToHyperService::new(served());
            tokio::spawn(http1::Builder::new().serve_connection(io, service));
        })
    };
    let server = spawn_blocking(start).await.unwrap();
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n";
    let longer = format!("{head}{}", "0".repeat(15));
    socket.write_all(longer.as_bytes()).await.unwrap();
    let received = timeout(PATIENCE, bodies.recv()).await.expect("it ends");
    assert_eq!(received, Some(10));

    for frames in [&[10, 5][..], &[15], &[5, 10]] {
        let server = by_hyper_http2(app.clone()).await;
        let (client, _ended) = connect_http2(&server).await;
        let declared = Request::post("http://test/").header("content-length", 10);
        let mut client = client.ready().await.unwrap();
        let sent = client.send_request(declared.body(()).unwrap(), false);
        let (_response, mut body) = sent.unwrap();
        for &length in frames {
            body.send_data("0".repeat(length).into(), false).unwrap();
        }
        let received = timeout(PATIENCE, bodies.recv()).await.expect("it ends");
        assert!(received.unwrap() <= 10, "{received:?}");
    }
}

async fn hold(body: Body) {
    future::pending::<()>().await;
    drop(body);
}

/// h2 allows half of the connection's window of 1 MiB, at 255 for each frame: 2056 frames.
#[tokio::test]
async fn some_2000_unread_frames_of_a_byte_end_a_connection_of_hypers() {
    let app = || {
        let held = Router::new().route("/held", post(hold));
        held.route("/", post(|| async {}))
    };
    let server = by_hyper_http2(app).await;
    let (mut client, ended) = connect_http2(&server).await;
    let held = Request::post("http://test/held").body(()).unwrap();
    let (_response, mut body) = client.send_request(held, false).unwrap();
    let mut send = |frames| (0..frames).try_for_each(|_| body.send_data("0".into(), false));

    send(2000).unwrap();
    let post = Request::post("http://test/").body(()).unwrap();
    client = client.ready().await.unwrap();
    let (response, _) = client.send_request(post, true).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);

    send(100).unwrap();
    let ended = timeout(PATIENCE, ended).await.expect("it ends");
    assert_eq!(ended.unwrap(), Some(Reason::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn streams_reset_for_an_error_end_a_connection_of_hypers_after_1024() {
    let server = by_hyper_http2(early).await;
    let (mut client, ended) = connect_http2(&server).await;
    let mut resets = 0;
    while let Ok(ready) = client.clone().ready().await {
        client = ready;
        // The stream ends short of its declared length.
        let short = Request::post("http://test/").header("content-length", 10);
        let sent = client.send_request(short.body(()).unwrap(), true);
        let Ok((response, _)) = sent else { break };
        match response.await {
            Err(error) if error.is_reset() => resets += 1,
            Err(_) => break,
            Ok(response) => panic!("{response:?}"),
        }
    }
    assert_eq!(resets, 1024);
    let ended = timeout(PATIENCE, ended).await.expect("it ends");
    assert_eq!(ended.unwrap(), Some(Reason::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn streams_reset_without_an_error_do_not_end_a_connection_of_hypers() {
    let server = by_hyper_http2(early).await;
    let (mut client, _ended) = connect_http2(&server).await;
    for _ in 0..2 * 1024 {
        client = client.ready().await.unwrap();
        let unread = Request::post("http://test/").body(()).unwrap();
        let (response, mut body) = client.send_request(unread, false).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::UNAUTHORIZED);
        let reset = poll_fn(|cx| body.poll_reset(cx)).await;
        assert_eq!(reset.unwrap(), Reason::NO_ERROR);
    }
}

/// 64 KiB are one byte more than the window before SETTINGS. hyper's SETTINGS allow 1 MiB.
#[tokio::test]
async fn a_window_of_hypers_that_is_used_before_it_is_acknowledged_resets_the_stream() {
    let server = by_hyper_http2(|| Router::new().route("/", post(hold))).await;
    assert_eq!(reset_after_64_kib(&server, true).await, None);
    let reason = u32::from(Reason::FLOW_CONTROL_ERROR).to_be_bytes();
    assert_eq!(reset_after_64_kib(&server, false).await.unwrap(), reason);
}

/// Sends 64 KiB in a stream, and returns the payload of its reset.
async fn reset_after_64_kib(server: &Server, acknowledged: bool) -> Option<Vec<u8>> {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;
    const ACK: u8 = 1;
    const END_HEADERS: u8 = 4;
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    // POST http://test/
    let post = frame(HEADERS, END_HEADERS, 1, b"\x83\x86\x84\x01\x04test");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let start = [&preface[..], &frame(SETTINGS, 0, 0, &[]), &post].concat();
    socket.write_all(&start).await.unwrap();
    while next_frame(&mut socket).await.0 != WINDOW_UPDATE {}
    if acknowledged {
        let ack = frame(SETTINGS, ACK, 0, &[]);
        socket.write_all(&ack).await.unwrap();
    }
    let data = frame(DATA, 0, 1, &[0; 16 * KIB]).repeat(4);
    socket.write_all(&data).await.unwrap();
    // The response to the first PING may come before the reset.
    for _ in 0..2 {
        let ping = frame(PING, 0, 0, &[0; 8]);
        socket.write_all(&ping).await.unwrap();
        loop {
            match next_frame(&mut socket).await {
                (RST_STREAM, payload) => return Some(payload),
                (PING, _) => break,
                _ => {}
            }
        }
    }
    None
}

/// Returns an HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[0, high, low, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Returns the kind and the payload of the next HTTP/2 frame.
async fn next_frame(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 9];
    socket.read_exact(&mut head).await.unwrap();
    let length = u16::from_be_bytes([head[1], head[2]]);
    let mut payload = vec![0; length.into()];
    socket.read_exact(&mut payload).await.unwrap();
    (head[3], payload)
}
