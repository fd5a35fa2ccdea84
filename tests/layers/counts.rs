//! Each refusal is counted once, whatever happens to the response.
#![cfg(feature = "axum")]

use std::{
    convert::Infallible,
    future::{Future, pending},
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
    response::IntoResponse,
    routing::post,
};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use tower_bodyguard::{BodyGuardLayer, Counters};
use tower_http::timeout::TimeoutLayer;

const LIMIT: u64 = 1000;

/// Returns a limit layer with its counters.
fn guard() -> (BodyGuardLayer, Counters) {
    let counters = Counters::default();
    let guard = BodyGuardLayer::new(LIMIT).observer(counters.observer());
    (guard, counters)
}

fn streamed(counters: &Counters) -> u64 {
    let refused = counters.snapshot().refused;
    assert_eq!(refused.declared + refused.bad_length, 0);
    refused.streamed
}

/// Returns a body of twice the limit with no declared length.
fn too_large() -> Request<Body> {
    let frames = stream::iter(vec![Ok::<_, Infallible>(vec![0; LIMIT as usize]); 2]);
    Request::post("/").body(Body::from_stream(frames)).unwrap()
}

async fn swallow(body: Body) -> &'static str {
    let mut frames = body.into_data_stream();
    while let Some(Ok(_)) = frames.next().await {}
    "all is well"
}

async fn read_and_hang(body: Body) {
    swallow(body).await;
    pending::<()>().await;
}

fn app<H: axum::handler::Handler<T, ()>, T: 'static>(handler: H) -> Router {
    Router::new().route("/", post(handler))
}

#[tokio::test]
async fn refusal_of_a_swallowed_error_is_counted_once() {
    let (guard, counters) = guard();
    let response = app(swallow).layer(guard).oneshot(too_large()).await;
    assert_eq!(response.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(streamed(&counters), 1);
}

#[tokio::test(start_paused = true)]
async fn refusal_before_an_outer_timeout_is_counted_once() {
    let (guard, counters) = guard();
    let timeout =
        TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(1));
    let app = app(read_and_hang).layer(guard).layer(timeout);
    let response = app.oneshot(too_large()).await.unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(streamed(&counters), 1);
}

#[tokio::test]
async fn refusal_of_a_client_that_leaves_is_counted_once() {
    let (guard, counters) = guard();
    {
        let response = pin!(app(read_and_hang).layer(guard).oneshot(too_large()));
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(response.poll(cx).is_pending());
    }
    assert_eq!(streamed(&counters), 1);
}

#[tokio::test]
async fn refusal_with_a_kept_response_is_counted_once() {
    let (guard, counters) = guard();
    let app = app(swallow).layer(guard.keep_handler_response());
    let response = app.oneshot(too_large()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(streamed(&counters), 1);
}

#[tokio::test]
async fn refusal_that_breaks_a_response_off_is_counted_once() {
    let (guard, counters) = guard();
    let echo = |body: Body| async move { body };
    let response = app(echo).layer(guard).oneshot(too_large()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(streamed(&counters), 0);
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(streamed(&counters), 1);
}

#[tokio::test]
async fn refusal_after_a_kept_response_began_is_counted_once() {
    let (guard, counters) = guard();
    let echo = |body: Body| async move { body };
    let app = app(echo).layer(guard.keep_handler_response());
    let response = app.oneshot(too_large()).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(streamed(&counters), 1);
}

#[tokio::test]
async fn refusal_after_the_response_is_counted_once() {
    let (guard, counters) = guard();
    let reader: Arc<Mutex<Option<JoinHandle<_>>>> = Arc::default();
    let handler = {
        let reader = Arc::clone(&reader);
        move |body: Body| async move {
            *reader.lock().unwrap() = Some(tokio::spawn(swallow(body)));
            "accepted".into_response()
        }
    };
    let response = app(handler).layer(guard).oneshot(too_large()).await;
    let body = response.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "accepted");
    assert_eq!(streamed(&counters), 0);
    let reader = reader.lock().unwrap().take().unwrap();
    reader.await.unwrap();
    assert_eq!(streamed(&counters), 1);
}

#[tokio::test(start_paused = true)]
async fn slow_upload_before_an_outer_timeout_is_counted_once() {
    let (guard, counters) = guard();
    let guard = guard.min_rate(240, Duration::from_secs(5));
    let timeout =
        TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(9));
    let app = app(read_and_hang).layer(guard).layer(timeout);
    let silent = Body::from_stream(stream::pending::<Result<Vec<u8>, Infallible>>());
    let response = app.oneshot(Request::post("/").body(silent).unwrap()).await;
    assert_eq!(response.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(counters.snapshot().refused.too_slow, 1);
}
