//! HTTP/2 streams linger, too. The client sends frames with prior knowledge.
#![cfg(feature = "axum")]

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode},
    routing::post,
};
use bytes::Bytes;
use futures_util::{future::join_all, stream};
use h2::Reason;
use http_body_util::BodyExt;
use testkit::{
    MIB,
    client::PATIENCE,
    h2::{Client, exchange, over, send, upload},
};
use tokio::net::TcpStream;
use tower::Layer;
use tower_bodyguard::{BodyGuardLayer, Linger, LingerConfig, StreamLinger};

use crate::server::{Server, counting};

fn app() -> Router {
    async fn trailer(body: Body) -> String {
        let collected = body.collect().await.unwrap();
        let sum = collected
            .trailers()
            .and_then(|trailers| trailers.get("x-sum"));
        sum.map_or_else(String::new, |sum| sum.to_str().unwrap().to_owned())
    }
    counting()
        .route("/early", post(|| async { StatusCode::UNAUTHORIZED }))
        .route("/trailer", post(trailer))
        .route("/echo", post(|body: Body| async { body }))
        .layer(BodyGuardLayer::new(10 * MIB))
}

async fn server() -> Server {
    server_with(StreamLinger::new()).await
}

async fn server_with(settings: StreamLinger) -> Server {
    let linger = Linger::new(LingerConfig::new().stream_linger(settings));
    serving(linger, app()).await
}

async fn serving(linger: Linger, app: Router) -> Server {
    let start = move || {
        Server::run_with(linger, |listener, linger| async move {
            tower_bodyguard::axum::serve(listener, app)
                .with_linger(&linger)
                .await
                .unwrap();
        })
    };
    // The server blocks on its own runtime.
    tokio::task::spawn_blocking(start).await.unwrap()
}

async fn connect(server: &Server) -> Client {
    let socket = TcpStream::connect(server.addr).await.unwrap();
    over(socket).await
}

/// `serve` calls the router without the layer if a request passes by its head.
#[tokio::test]
async fn limit_around_a_whole_app_is_exact() {
    let start = || {
        Server::run(|listener, linger| async move {
            let app = BodyGuardLayer::axum(MIB).layer(counting());
            let server = tower_bodyguard::axum::serve(listener, app);
            server.with_linger(&linger).await.unwrap();
        })
    };
    let server = tokio::task::spawn_blocking(start).await.unwrap();
    let client = connect(&server).await;
    for (length, status) in [(1, 200), (MIB, 200), (MIB + 1, 413)] {
        for declares in [true, false] {
            let mut request = Request::post("http://test/");
            if declares {
                request = request.header("content-length", length);
            }
            let seen = exchange(&client, request.body(()).unwrap(), length, None).await;
            assert_eq!(seen.status, status, "{length}, {declares}");
            if status == 200 {
                assert_eq!(seen.body, length.to_string(), "{declares}");
            }
        }
    }
}

/// Asserts that refused bytes were returned to the connection's window.
async fn assert_unharmed(client: &Client) {
    let seen = upload(client, "/", 8 * MIB).await;
    assert_eq!((seen.status, seen.reset), (StatusCode::OK, None));
    assert_eq!(seen.body, (8 * MIB).to_string());
}

#[tokio::test]
async fn a_client_that_sends_everything_gets_its_response() {
    let server = server_with(StreamLinger::new().timeout(PATIENCE)).await;
    let client = connect(&server).await;
    for path in ["/", "/early"] {
        let seen = upload(&client, path, 20_000_000).await;
        assert!(seen.status.is_client_error());
        assert_eq!(seen.reset, None, "it was read to its end");
        assert_eq!(seen.headers.get("connection"), None);
    }
    assert_unharmed(&client).await;
}

/// RFC 9113 §8.1: the response ends, and then a reset with `NO_ERROR` follows.
#[tokio::test]
async fn a_client_that_sends_on_is_reset_without_an_error() {
    let server = server_with(StreamLinger::new().timeout(Duration::from_millis(100))).await;
    let client = connect(&server).await;
    for path in ["/", "/early"] {
        let seen = upload(&client, path, 1 << 40).await;
        assert!(seen.status.is_client_error());
        assert_eq!(seen.reset, Some(Reason::NO_ERROR));
    }
    assert_unharmed(&client).await;
}

#[tokio::test]
async fn stream_is_drained_to_its_limit_of_bytes() {
    let server = server_with(StreamLinger::new().max_bytes(3 * MIB).timeout(PATIENCE)).await;
    let client = connect(&server).await;
    let seen = upload(&client, "/early", 2 * MIB).await;
    assert_eq!(seen.reset, None);
    let seen = upload(&client, "/early", 1 << 40).await;
    assert_eq!(seen.reset, Some(Reason::NO_ERROR));
}

#[tokio::test]
async fn a_hundred_refused_in_a_row_do_no_harm() {
    let server = server_with(StreamLinger::new().timeout(Duration::from_millis(20))).await;
    let client = connect(&server).await;
    for _ in 0..100 {
        let seen = upload(&client, "/early", 1 << 40).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        assert_eq!(seen.reset, Some(Reason::NO_ERROR));
    }
    assert_unharmed(&client).await;
}

/// More streams are refused than may linger. The others are held for a moment and then reset.
#[tokio::test]
async fn a_hundred_refused_at_once_do_no_harm() {
    let server = server_with(StreamLinger::new().max_streams(10)).await;
    let client = connect(&server).await;
    let uploads = (0..100).map(|_| upload(&client, "/early", 2_000_000));
    for seen in join_all(uploads).await {
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        assert!(
            matches!(seen.reset, None | Some(Reason::NO_ERROR)),
            "{seen:?}"
        );
    }
    assert_unharmed(&client).await;
}

#[tokio::test]
async fn other_streams_go_on() {
    let server = server().await;
    let client = connect(&server).await;
    let refused = upload(&client, "/early", 60_000_000);
    let others = async {
        for _ in 0..20 {
            assert_unharmed(&client).await;
        }
    };
    let (refused, ()) = tokio::join!(refused, others);
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}

/// h2 has a budget for small frames, which only reading restores: some 2000 of them may wait unread
/// (h2 0.4.20, `proto/streams/counts.rs`). A stream that is not read would exhaust it.
#[tokio::test]
async fn thousands_of_small_frames_do_not_end_the_connection() {
    let server = server_with(StreamLinger::new().timeout(PATIENCE)).await;
    let client = connect(&server).await;
    let request = Request::post("http://test/early").body(()).unwrap();
    let mut ready = client.clone().ready().await.unwrap();
    let (response, mut stream) = ready.send_request(request, false).unwrap();
    for _ in 0..20 {
        for _ in 0..500 {
            let message = Bytes::from_static(b"ten bytes!");
            stream
                .send_data(message, false)
                .expect("the stream is read");
        }
        // This response arrives when the server has received everything sent before.
        let seen = upload(&client, "/", 1).await;
        assert_eq!(
            (seen.status, seen.body.as_ref()),
            (StatusCode::OK, &b"1"[..])
        );
    }
    assert_eq!(response.await.unwrap().status(), StatusCode::UNAUTHORIZED);
    drop(stream);
    assert_unharmed(&client).await;
}

#[tokio::test]
async fn a_refused_head_has_no_body() {
    let server = server().await;
    let client = connect(&server).await;
    let request = Request::builder()
        .method(Method::HEAD)
        .uri("http://test/")
        .header("content-length", 20 * MIB)
        .body(())
        .unwrap();
    let seen = exchange(&client, request, 20 * MIB, None).await;
    assert_eq!(seen.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(seen.body.is_empty());
    assert!(seen.headers.contains_key("content-length"));
}

#[tokio::test]
async fn trailers_of_accepted_bodies_pass() {
    let server = server().await;
    let client = connect(&server).await;
    let request = Request::post("http://test/trailer").body(()).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    let seen = exchange(&client, request, 1000, Some(trailers)).await;
    assert_eq!(
        (seen.status, seen.body.as_ref()),
        (StatusCode::OK, &b"7"[..])
    );
}

/// The limit is exceeded while the body streams: the limit layer's response arrives whole.
#[tokio::test]
async fn streamed_body_over_the_limit_gets_a_response() {
    let server = server().await;
    let client = connect(&server).await;
    let seen = upload(&client, "/", 30_000_000).await;
    assert_eq!(seen.status, StatusCode::PAYLOAD_TOO_LARGE);
    let words = String::from_utf8_lossy(&seen.body).into_owned();
    assert!(words.contains("limit is 10 MiB"), "{words}");
    assert_unharmed(&client).await;
}

/// The limit is exceeded after the response began. The response must not end as if it were
/// complete.
#[tokio::test]
async fn a_response_in_progress_is_aborted() {
    let server = server().await;
    let client = connect(&server).await;
    let request = Request::post("http://test/echo").body(()).unwrap();
    let mut ready = client.clone().ready().await.unwrap();
    let (response, stream) = ready.send_request(request, false).unwrap();
    let sending = tokio::spawn(send(stream, 11 * MIB, None));
    let (parts, mut body) = response.await.unwrap().into_parts();
    assert_eq!(parts.status, StatusCode::OK);
    let error = loop {
        match body.data().await.expect("no end as if all were well") {
            Ok(data) => body.flow_control().release_capacity(data.len()).unwrap(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    sending.abort();
    assert_unharmed(&client).await;
}

/// A handler that never reads its body holds the connection's window.
#[tokio::test]
async fn min_rate_spares_a_client_that_other_streams_hold_up() {
    let (release, released) = tokio::sync::watch::channel(false);
    let unread = move |body: Body| {
        let mut released = released.clone();
        async move {
            let _ = released.wait_for(|released| *released).await;
            drop(body);
        }
    };
    let grace = Duration::from_millis(500);
    let paced = Router::new()
        .route(
            "/paced",
            post(|body: Bytes| async move { body.len().to_string() }),
        )
        .layer(BodyGuardLayer::axum(64 * MIB).min_rate(MIB, grace));
    let app = Router::new().route("/unread", post(unread)).merge(paced);
    let server = serving(Linger::default(), app).await;
    let client = connect(&server).await;

    let request = Request::post("http://test/unread").body(()).unwrap();
    let mut sender = client.clone().ready().await.unwrap();
    let (unread, stream) = sender.send_request(request, false).unwrap();
    // This fills hyper's whole window.
    assert_eq!(send(stream, MIB, None).await, None);

    let paced = tokio::spawn({
        let client = client.clone();
        async move {
            let request = Request::post("http://test/paced").body(()).unwrap();
            let mut client = client.ready().await.unwrap();
            let (response, stream) = client.send_request(request, false).unwrap();
            let reset = send(stream, 4 * MIB, None).await;
            (response.await.unwrap().status(), reset)
        }
    });
    // This is longer than the rate allows. But the rate counts only while the client can send.
    tokio::time::sleep(4 * grace).await;
    assert!(!paced.is_finished(), "it has room in the window");
    release.send(true).unwrap();
    let (status, reset) = paced.await.unwrap();
    assert_eq!((status, reset), (StatusCode::OK, None));
    assert_eq!(unread.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn min_rate_refuses_a_slow_client_over_http2() {
    let guard = BodyGuardLayer::new(MIB).min_rate(1000, Duration::from_millis(100));
    let server = serving(Linger::default(), counting().layer(guard)).await;
    let client = connect(&server).await;
    let request = Request::post("http://test/").body(()).unwrap();
    let mut sender = client.clone().ready().await.unwrap();
    let (response, mut stream) = sender.send_request(request, false).unwrap();
    stream
        .send_data(Bytes::from_static(b"ten bytes."), false)
        .unwrap();
    let response = tokio::time::timeout(PATIENCE, response).await;
    let status = response.expect("a refusal").unwrap().status();
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
}

/// The client never finishes its request. Several times, the server reaches the limits for reading
/// the request. The response continues each time.
#[tokio::test]
async fn response_is_whole_though_its_request_is_never_finished() {
    const PIECES: u64 = 64;
    let respond = || async {
        let pieces = stream::unfold(0, |piece| async move {
            // As slow as a response that a client reads steadily.
            tokio::time::sleep(Duration::from_millis(20)).await;
            (piece < PIECES).then(|| {
                (
                    Ok::<_, Infallible>(Bytes::from_static(&[0; 1000])),
                    piece + 1,
                )
            })
        });
        Body::from_stream(pieces)
    };
    for (stall, bytes) in [(10_000, 1 << 20), (5, 1 << 20), (10_000, 10)] {
        let linger = Linger::new(
            LingerConfig::new()
                .stall_timeout(Duration::from_millis(stall))
                .stream_linger(StreamLinger::new().max_bytes(bytes)),
        );
        let app = Router::new().route("/", post(respond));
        let server = serving(linger, app).await;
        let client = connect(&server).await;
        let request = Request::post("http://test/").body(()).unwrap();
        let mut sender = client.clone().ready().await.unwrap();
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        stream
            .send_data(Bytes::from_static(&[0; 100]), false)
            .unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut received = 0;
        while let Some(data) = body.data().await {
            let data = data.unwrap_or_else(|error| panic!("{error} ({stall} ms, {bytes} bytes)"));
            received += data.len() as u64;
            body.flow_control().release_capacity(data.len()).unwrap();
        }
        assert_eq!(received, PIECES * 1000, "{stall} ms, {bytes} bytes");
    }
}
