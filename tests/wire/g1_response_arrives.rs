//! G1: the response arrives. Clients write 64 MiB before they read. No write fails, the whole
//! response arrives, and the connection ends with a clean EOF.
#![cfg(feature = "axum")]

use std::{io::Write, net::Shutdown, time::Duration};

use axum::{
    BoxError, Router,
    error_handling::HandleErrorLayer,
    extract::Request,
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
#[cfg(unix)]
use testkit::client::connect_unix;
use testkit::{
    LARGE, MIB, SendFirst,
    client::{FRAMINGS, Framing, connect, read_response},
};
use tower::ServiceBuilder;
use tower_bodyguard::{BodyGuardLayer, DeliveryLayer};
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

use crate::server::{Server, guarded, limited};

#[test]
fn refusal_arrives_with_each_framing() {
    for server in Server::both(&guarded(4 * MIB)) {
        for framing in FRAMINGS {
            let response = SendFirst::post("/", framing, LARGE)
                .to(server.addr)
                .assert_delivered(413);
            assert!(response.body.contains("limit is 4 MiB"), "{response:?}");
        }
    }
}

/// Negative control: the same clients on a stock server, in the same run. `LingerIo` exists because
/// of this reset. If this test fails, hyper has changed.
#[test]
fn without_the_wrapper_the_same_clients_are_reset() {
    let server = Server::plain(limited(4 << 20));
    for framing in FRAMINGS {
        let outcome = SendFirst::post("/", framing, LARGE).to(server.addr);
        assert!(outcome.was_reset(), "{framing:?}: {outcome:?}");
    }
}

/// Without `LingerIo`, the limit layer's response is lost like any other.
#[test]
fn without_the_wrapper_the_guard_does_no_better() {
    let server = Server::plain(guarded(4 * MIB));
    let outcome = SendFirst::post("/", Framing::ContentLength, LARGE).to(server.addr);
    assert!(outcome.was_reset(), "{outcome:?}");
}

/// `LingerIo` alone fixes an existing app, with any limit layer.
#[test]
fn the_wrapper_alone_delivers_for_any_limit() {
    for server in Server::both(&limited(4 << 20)) {
        for framing in FRAMINGS {
            SendFirst::post("/bytes", framing, LARGE)
                .to(server.addr)
                .assert_delivered(413);
        }
    }
}

/// On a Unix socket the kernel does not discard data for us.
#[cfg(unix)]
#[test]
fn a_refusal_arrives_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _server = Server::run(|_, linger| {
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        async move {
            axum::serve(linger.listener(listener), guarded(4 * MIB))
                .await
                .unwrap();
        }
    });
    for framing in FRAMINGS {
        let socket = connect_unix(&path);
        SendFirst::post("/", framing, LARGE)
            .over(socket)
            .assert_delivered(413);
    }
}

/// Responds from a layer, so that no limit layer inside it is called.
async fn deny(_: Request, _: Next) -> Response {
    (StatusCode::UNAUTHORIZED, "who are you?").into_response()
}

/// Converts any error of a fallible service to a response.
async fn overloaded(_: BoxError) -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}

async fn never() {
    std::future::pending::<()>().await;
}

async fn panics() {
    panic!("as handlers do")
}

async fn no() -> (StatusCode, &'static str) {
    (StatusCode::UNPROCESSABLE_ENTITY, "no")
}

/// Returns an app with early responses from many sources, none of which reads the body. Each pair
/// is a path and its status.
fn early_responses() -> (Router, [(&'static str, u16); 10]) {
    let shedding = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(overloaded))
        .load_shed()
        .concurrency_limit(0);
    let timeout = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::ZERO);
    let app = Router::new()
        .route("/guard", post(no).layer(BodyGuardLayer::new(MIB)))
        .route(
            "/auth",
            post(no)
                .layer(BodyGuardLayer::new(MIB))
                .layer(middleware::from_fn(deny)),
        )
        .route("/handler", post(no))
        .route("/moved", post(|| async { Redirect::to("/elsewhere") }))
        .route("/get", get(no))
        .route("/shed", post(no).layer(shedding))
        .route("/timeout", post(never).layer(timeout))
        .route("/panic", post(panics).layer(CatchPanicLayer::new()))
        .route("/busy", post(|| async { StatusCode::TOO_MANY_REQUESTS }));
    let responses = [
        ("/guard", 413),
        ("/auth", 401),
        ("/handler", 422),
        ("/moved", 303),
        ("/get", 405),
        ("/nowhere", 404),
        ("/shed", 503),
        ("/timeout", 408),
        ("/panic", 500),
        ("/busy", 429),
    ];
    (app, responses)
}

#[test]
fn early_responses_arrive_from_any_source() {
    let (app, responses) = early_responses();
    for server in Server::both(&app) {
        for (path, status) in responses {
            // Without a declared length, the limit layer lets this upload through.
            for framing in FRAMINGS {
                if (path, framing) == ("/guard", Framing::Chunked) {
                    continue;
                }
                SendFirst::post(path, framing, LARGE)
                    .to(server.addr)
                    .assert_delivered(status);
            }
        }
    }
}

/// Negative control for each source. If one of them passes, hyper, axum or tower-http now delivers
/// it.
#[test]
fn early_responses_are_lost_on_a_stock_server() {
    let (app, responses) = early_responses();
    let server = Server::plain(app);
    for (path, _) in responses {
        let outcome = SendFirst::post(path, Framing::ContentLength, LARGE).to(server.addr);
        assert!(outcome.was_reset(), "{path}: {outcome:?}");
    }
    let bad = SendFirst::post("/", Framing::ContentLength, LARGE).header("no colon");
    let outcome = bad.to(server.addr);
    assert!(outcome.was_reset(), "{outcome:?}");
}

/// hyper itself responds to bytes that never become a request.
#[test]
fn hypers_own_responses_arrive() {
    let (app, _) = early_responses();
    for server in Server::both(&app) {
        let bad = SendFirst::post("/", Framing::ContentLength, LARGE).header("no colon");
        bad.to(server.addr).assert_delivered(400);
        let mut many = SendFirst::post("/", Framing::ContentLength, LARGE);
        for i in 0..200 {
            many = many.header(&format!("X-{i}: 1"));
        }
        many.to(server.addr).assert_delivered(431);
    }
}

/// The response exceeds both socket buffers, and the client sends everything before it reads. The
/// server must read in the meantime.
#[test]
fn a_long_response_gets_past_a_client_that_sends_first() {
    const PAGE: usize = 4 << 20;
    let app = Router::new().route(
        "/",
        post(|| async { (StatusCode::FORBIDDEN, "n".repeat(PAGE)) }),
    );
    let by_layer = Server::wrapped(app.clone().layer(DeliveryLayer::default()));
    for server in [Server::combined(app), by_layer] {
        for framing in FRAMINGS {
            let response = SendFirst::post("/", framing, LARGE)
                .to(server.addr)
                .assert_delivered(403);
            assert_eq!(response.body.len(), PAGE);
        }
    }
}

#[test]
fn a_client_that_half_closed_in_mid_body_gets_its_early_response() {
    let (app, _) = early_responses();
    for server in Server::both(&app) {
        let mut socket = connect(server.addr);
        let head = SendFirst::post("/auth", Framing::ContentLength, LARGE).head();
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(&[0; 1000]).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_response(&mut socket).unwrap().status, 401);
    }
}

/// This is for users who can only add layers: within the drain timeout, no response is lost.
#[test]
fn delivery_as_a_layer_delivers_without_a_hook() {
    let (app, responses) = early_responses();
    let server = Server::plain(app.layer(DeliveryLayer::default()));
    for (path, status) in responses {
        SendFirst::post(path, Framing::ContentLength, LARGE)
            .to(server.addr)
            .assert_delivered(status);
    }
}
