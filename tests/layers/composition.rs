//! The limit layer inside and outside of the layers that it is used with. If a pair compiles as one
//! stack of types, it is tested so. If it does not, axum's `Router::layer` is between the two. Each
//! refusal arrives through the pair, and an outer layer can inspect it.
#![cfg(feature = "axum")]

use std::{
    convert::Infallible,
    io::Read,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    BoxError, Router,
    body::{Body, Bytes},
    error_handling::HandleErrorLayer,
    extract::{DefaultBodyLimit, rejection::BytesRejection},
    http::{self, StatusCode},
    middleware,
    response::Response,
    routing::any,
};
use futures_util::{FutureExt, stream};
use testkit::{
    LARGE, MIB, SendFirst,
    client::{self, FRAMINGS, Framing},
};
use tower::{ServiceBuilder, ServiceExt};
use tower_bodyguard::{BodyGuardLayer, Refusal};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{CompressionLayer, predicate::SizeAbove},
    cors::CorsLayer,
    decompression::RequestDecompressionLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    timeout::{RequestBodyTimeoutLayer, ResponseBodyTimeoutLayer, TimeoutLayer},
    trace::TraceLayer,
};
use tracing::Span;

use crate::server::{Server, counting};

/// Longer than any upload here takes.
const AMPLE: Duration = Duration::from_secs(60);

fn guard() -> BodyGuardLayer {
    BodyGuardLayer::new(MIB)
}

/// Sends uploads over the limit through `app`, to both kinds of server and in both framings.
/// Asserts that each refusal arrives, with its text and with the extension for outer layers. One
/// upload of exactly the limit must pass.
fn refusals(app: Router, headers: &[&str]) -> Vec<client::Response> {
    let app = app.layer(middleware::map_response(note));
    let mut refusals = Vec::new();
    for server in Server::both(&app) {
        for framing in FRAMINGS {
            let response = upload(framing, LARGE, headers)
                .to(server.addr)
                .assert_delivered(413);
            assert_eq!(response.header("x-refused"), Some("1048576"));
            let words = text(&response);
            assert!(words.contains("limit is 1 MiB"), "{words}");
            refusals.push(response);

            let passes = upload(framing, MIB, headers).header("Connection: close");
            let response = passes.to(server.addr).assert_delivered(200);
            assert_eq!(text(&response), "1048576");
            assert_eq!(response.header("x-refused"), None);
        }
    }
    refusals
}

/// Copies the refusal's limit from the extensions to a header that the client can read.
async fn note(mut response: Response) -> Response {
    let limit = response.extensions().get().and_then(Refusal::limit);
    if let Some(limit) = limit {
        response.headers_mut().insert("x-refused", limit.into());
    }
    response
}

fn upload(framing: Framing, length: u64, headers: &[&str]) -> SendFirst {
    let upload = SendFirst::post("/", framing, length);
    headers
        .iter()
        .fold(upload, |upload, line| upload.header(line))
}

/// Returns the text after undoing the content encoding.
fn text(response: &client::Response) -> String {
    if response.header("content-encoding").is_none() {
        return response.body.clone();
    }
    let mut text = String::new();
    flate2::read::GzDecoder::new(&response.content[..])
        .read_to_string(&mut text)
        .expect("the whole compressed text");
    text
}

type Log = Arc<Mutex<Vec<(u16, Option<u64>)>>>;

/// Records each response's status and the limit that a refusal names.
fn log_to<B>(log: &Log) -> impl Fn(&http::Response<B>, Duration, &Span) + Clone + use<B> {
    let log = Arc::clone(log);
    move |response: &http::Response<B>, _, _: &Span| {
        let limit = response.extensions().get().and_then(Refusal::limit);
        let entry = (response.status().as_u16(), limit);
        log.lock().unwrap().push(entry);
    }
}

#[test]
fn trace_outside_sees_the_refusals() {
    let log = Log::default();
    let app = counting().layer(
        ServiceBuilder::new()
            .layer(TraceLayer::new_for_http().on_response(log_to(&log)))
            .layer(guard()),
    );
    refusals(app, &[]);
    let pair = [(413, Some(MIB)), (200, None)];
    assert_eq!(*log.lock().unwrap(), [pair; 4].concat());
}

/// The inner layer sees nothing of an upload that is refused by its length. If the upload streamed,
/// it sees the handler's response, which here takes the error for the end.
#[test]
fn trace_inside_sees_what_the_handler_said() {
    let log = Log::default();
    let app = counting().layer(
        ServiceBuilder::new()
            .layer(guard())
            .layer(TraceLayer::new_for_http().on_response(log_to(&log))),
    );
    refusals(app, &[]);
    // For each server: one upload passed with a length, one was refused in chunks, and one passed
    // in chunks.
    assert_eq!(*log.lock().unwrap(), [(200, None); 6]);
}

const ORIGIN: &[&str] = &["Origin: http://page.test"];

/// `Cors` requires a body type with a default, for its responses to preflights.
#[test]
fn cors_outside_lets_scripts_read_the_refusal() {
    let app = counting().layer(guard()).layer(CorsLayer::permissive());
    for refusal in refusals(app, ORIGIN) {
        assert_eq!(refusal.header("access-control-allow-origin"), Some("*"));
    }
}

#[test]
fn cors_inside_does_not() {
    let app = counting().layer(
        ServiceBuilder::new()
            .layer(guard())
            .layer(CorsLayer::permissive()),
    );
    for refusal in refusals(app, ORIGIN) {
        assert_eq!(refusal.header("access-control-allow-origin"), None);
    }
}

fn timeout(after: Duration) -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, after)
}

/// `Timeout` requires a body type with a default, for its response.
#[test]
fn timeout_outside() {
    refusals(counting().layer(guard()).layer(timeout(AMPLE)), &[]);
}

#[test]
fn timeout_inside() {
    let stack = ServiceBuilder::new().layer(guard()).layer(timeout(AMPLE));
    refusals(counting().layer(stack), &[]);
}

/// Exceeds the limit and never returns.
async fn reads_and_hangs(body: Result<Bytes, BytesRejection>) {
    assert!(body.is_err());
    std::future::pending::<()>().await;
}

async fn in_time(app: Router) -> StatusCode {
    let body = Body::from_stream(stream::iter([Ok::<_, Infallible>(vec![0; 2 << 20])]));
    let request = http::Request::post("/").body(body).unwrap();
    app.oneshot(request).await.unwrap().status()
}

/// The limit layer lets the handler finish. If that takes too long, the order of the layers decides
/// the response.
#[tokio::test(start_paused = true)]
async fn a_timeout_outside_does_not_wait_for_the_refusal() {
    let app = Router::new()
        .route("/", any(reads_and_hangs))
        .layer(DefaultBodyLimit::disable());
    let inside = ServiceBuilder::new().layer(guard()).layer(timeout(AMPLE));
    assert_eq!(in_time(app.clone().layer(inside)).await, 413);
    let outside = app.layer(guard()).layer(timeout(AMPLE));
    assert_eq!(in_time(outside).await, 408);
}

/// A request body with a timer is not `Unpin`, and the limit layer requires an `Unpin` body.
#[test]
fn body_timeouts_outside() {
    let app = counting()
        .layer(guard())
        .layer(RequestBodyTimeoutLayer::new(AMPLE))
        .layer(ResponseBodyTimeoutLayer::new(AMPLE));
    refusals(app, &[]);
}

#[test]
fn body_timeouts_inside() {
    let app = counting().layer(
        ServiceBuilder::new()
            .layer(guard())
            .layer(RequestBodyTimeoutLayer::new(AMPLE))
            .layer(ResponseBodyTimeoutLayer::new(AMPLE)),
    );
    refusals(app, &[]);
}

const GZIP: &[&str] = &["Accept-Encoding: gzip"];

#[test]
fn compression_outside_compresses_the_refusal() {
    let app = counting().layer(
        ServiceBuilder::new()
            .layer(CompressionLayer::new())
            .layer(guard()),
    );
    for refusal in refusals(app, GZIP) {
        assert_eq!(refusal.header("content-encoding"), Some("gzip"));
        assert_eq!(refusal.header("content-length"), None);
    }
}

#[test]
fn compression_inside_leaves_the_refusal_as_it_is() {
    let app = counting().layer(
        ServiceBuilder::new()
            .layer(guard())
            .layer(CompressionLayer::new().compress_when(SizeAbove::new(0))),
    );
    for refusal in refusals(app, GZIP) {
        assert_eq!(refusal.header("content-encoding"), None);
        let length = refusal.content.len().to_string();
        assert_eq!(refusal.header("content-length"), Some(&*length));
    }
}

/// Returns an app whose handler panics if a body ends in an error.
fn careless() -> Router {
    let count = |body: Result<Bytes, BytesRejection>| async move {
        let body = body.expect("a whole body");
        body.len().to_string()
    };
    Router::new()
        .route("/", any(count))
        .layer(DefaultBodyLimit::disable())
}

#[test]
fn catch_panic_inside_leaves_the_last_word_to_the_guard() {
    let app = careless().layer(
        ServiceBuilder::new()
            .layer(guard())
            .layer(CatchPanicLayer::new()),
    );
    refusals(app, &[]);
}

/// A panic unwinds through the limit layer, so its refusal is lost.
#[test]
fn catch_panic_outside_responds_if_the_handler_panics() {
    let stack = || {
        ServiceBuilder::new()
            .layer(CatchPanicLayer::new())
            .layer(guard())
    };
    refusals(counting().layer(stack()), &[]);
    for server in Server::both(&careless().layer(stack())) {
        upload(Framing::Chunked, LARGE, &[])
            .to(server.addr)
            .assert_delivered(500);
    }
}

#[test]
fn catch_panic_outside_catches_panics_in_callbacks() {
    let panics = guard().refusal_response(|_: &Refusal| -> Response { panic!("as closures do") });
    let app = counting().layer(
        ServiceBuilder::new()
            .layer(CatchPanicLayer::new())
            .layer(panics),
    );
    for server in Server::both(&app) {
        for framing in FRAMINGS {
            upload(framing, LARGE, &[])
                .to(server.addr)
                .assert_delivered(500);
        }
    }
}

#[test]
fn request_ids_outside_are_on_the_refusal() {
    let app = counting().layer(
        ServiceBuilder::new()
            .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
            .layer(PropagateRequestIdLayer::x_request_id())
            .layer(guard()),
    );
    for refusal in refusals(app.clone(), &["X-Request-Id: seven"]) {
        assert_eq!(refusal.header("x-request-id"), Some("seven"));
    }
    for refusal in refusals(app, &[]) {
        let id = refusal.header("x-request-id").expect("one was made");
        assert_eq!(id.len(), 36, "{id}");
    }
}

#[test]
fn request_ids_inside_are_not() {
    let app = counting().layer(
        ServiceBuilder::new()
            .layer(guard())
            .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
            .layer(PropagateRequestIdLayer::x_request_id()),
    );
    for refusal in refusals(app, &["X-Request-Id: seven"]) {
        assert_eq!(refusal.header("x-request-id"), None);
    }
}

async fn failed(error: BoxError) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

/// The worker of `Buffer` needs a runtime where the stack is built. The clients block.
async fn refusals_beside_a_worker(app: Router) {
    let test = tokio::task::spawn_blocking(|| refusals(app, &[]));
    tokio::time::timeout(AMPLE, test).await.unwrap().unwrap();
}

#[tokio::test]
async fn buffer_outside() {
    let app = counting().layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(failed))
            .buffer(1)
            .layer(guard()),
    );
    refusals_beside_a_worker(app).await;
}

#[tokio::test]
async fn buffer_inside() {
    let app = counting().layer(
        ServiceBuilder::new()
            .layer(guard())
            .layer(HandleErrorLayer::new(failed))
            .buffer(1),
    );
    refusals_beside_a_worker(app).await;
}

#[test]
fn load_shed_outside() {
    let app = counting().layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(failed))
            .load_shed()
            .layer(guard()),
    );
    refusals(app, &[]);
}

/// The limit layer passes the error of the inner service on to the error handler.
#[test]
fn load_shed_inside() {
    let app = counting().layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(failed))
            .layer(guard())
            .load_shed(),
    );
    refusals(app, &[]);
}

/// The outer of the two layers decides.
#[test]
fn without_room_the_order_decides() {
    let inside = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(failed))
        .layer(guard())
        .load_shed()
        .concurrency_limit(0);
    let outside = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(failed))
        .load_shed()
        .concurrency_limit(0)
        .layer(guard());
    let orders = [
        (counting().layer(inside), 413),
        (counting().layer(outside), 503),
    ];
    for (app, status) in orders {
        for server in Server::both(&app) {
            upload(Framing::ContentLength, LARGE, &[])
                .to(server.addr)
                .assert_delivered(status);
        }
    }
}

/// A service is called only when it is ready, and the limit layer is ready when its inner service
/// is.
#[test]
fn a_refusal_waits_for_a_permit_in_either_order() {
    for permits in [0, 1] {
        let inside = ServiceBuilder::new()
            .layer(guard())
            .concurrency_limit(permits);
        let outside = ServiceBuilder::new()
            .concurrency_limit(permits)
            .layer(guard());
        for app in [counting().layer(inside), counting().layer(outside)] {
            let request = http::Request::post("/").header("content-length", LARGE);
            let response = app.oneshot(request.body(Body::from("…")).unwrap());
            let status = response
                .now_or_never()
                .map(|response| response.unwrap().status());
            let refused = (permits > 0).then_some(StatusCode::PAYLOAD_TOO_LARGE);
            assert_eq!(status, refused);
        }
    }
}

#[test]
fn nested_guards_with_the_smaller_limit_outside() {
    for inner in [MIB, 4 * MIB] {
        let stack = ServiceBuilder::new()
            .layer(guard())
            .layer(BodyGuardLayer::new(inner));
        refusals(counting().layer(stack), &[]);
    }
}

/// If a length exceeds both limits, the outer layer refuses it with its own text. If it exceeds
/// only one limit, that layer refuses it.
#[test]
fn nested_guards_with_the_smaller_limit_inside() {
    let stack = ServiceBuilder::new()
        .layer(BodyGuardLayer::new(4 * MIB))
        .layer(guard());
    let between = (Framing::ContentLength, 2 * MIB, "The limit is 1 MiB");
    let over_both = (Framing::ContentLength, LARGE, "The limit is 4 MiB");
    let streamed = (Framing::Chunked, LARGE, "the limit is 1 MiB");
    for server in Server::both(&counting().layer(stack)) {
        for (framing, length, words) in [between, over_both, streamed] {
            let response = upload(framing, length, &["Connection: close"])
                .to(server.addr)
                .assert_delivered(413);
            assert!(response.body.contains(words), "{response:?}");
        }
    }
}

/// A response from a layer inside is no refusal, and the limit layer leaves it alone.
#[test]
fn responses_of_layers_inside_pass() {
    let never = Router::new().route("/", any(std::future::pending::<()>));
    let panics = Router::new().route("/", any(async |_: Body| -> () { panic!("as handlers do") }));
    let shedding = ServiceBuilder::new()
        .layer(guard())
        .layer(HandleErrorLayer::new(failed))
        .load_shed()
        .concurrency_limit(0);
    let timing_out = ServiceBuilder::new()
        .layer(guard())
        .layer(timeout(Duration::ZERO));
    let catching = ServiceBuilder::new()
        .layer(guard())
        .layer(CatchPanicLayer::new());
    let responses = [
        (never.layer(timing_out), 408),
        (panics.layer(catching), 500),
        (counting().layer(shedding), 503),
    ];
    for (app, status) in responses {
        for server in Server::both(&app.layer(middleware::map_response(note))) {
            let response = upload(Framing::Chunked, LARGE, &[])
                .to(server.addr)
                .assert_delivered(status);
            assert_eq!(response.header("x-refused"), None);
        }
    }
}

/// The stack that `docs/LAYERS.md` recommends.
#[test]
fn the_recommended_stack() {
    let log = Log::default();
    let uploads = ServiceBuilder::new()
        .layer(guard())
        .layer(RequestDecompressionLayer::new())
        .layer(BodyGuardLayer::axum(4 * MIB))
        .layer(CatchPanicLayer::new());
    let app = counting()
        .layer(uploads)
        .layer(timeout(AMPLE))
        .layer(CompressionLayer::new())
        .layer(CorsLayer::permissive())
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(TraceLayer::new_for_http().on_response(log_to(&log)))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid));
    for refusal in refusals(app, &[ORIGIN, GZIP].concat()) {
        assert_eq!(refusal.header("access-control-allow-origin"), Some("*"));
        assert_eq!(refusal.header("content-encoding"), Some("gzip"));
        assert!(refusal.header("x-request-id").is_some());
    }
    let pair = [(413, Some(MIB)), (200, None)];
    assert_eq!(*log.lock().unwrap(), [pair; 4].concat());
}
