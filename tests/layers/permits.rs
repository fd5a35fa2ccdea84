//! A refusal reserves nothing: no permit of a concurrency limit, and no slot of a buffer. The
//! service that is called is the one that was polled ready.
#![cfg(feature = "axum")]

use std::time::Duration;

use axum::{BoxError, Router, error_handling::HandleErrorLayer, http::StatusCode};
use testkit::{
    LARGE, MIB, SendFirst,
    client::{FRAMINGS, Framing},
};
use tower::ServiceBuilder;
use tower_bodyguard::BodyGuardLayer;

use crate::server::{Server, counting};

async fn failed(error: BoxError) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

fn refuse_and_then_serve(app: &Router) {
    for server in Server::both(app) {
        for _ in 0..5 {
            for framing in FRAMINGS {
                SendFirst::post("/", framing, LARGE)
                    .to(server.addr)
                    .assert_delivered(413);
            }
            let small = SendFirst::post("/", Framing::Chunked, 5).header("Connection: close");
            assert_eq!(small.to(server.addr).assert_delivered(200).body, "5");
        }
    }
}

#[test]
fn a_concurrency_limit_inside_the_guard() {
    let app = counting().layer(
        ServiceBuilder::new()
            .layer(BodyGuardLayer::new(MIB))
            .concurrency_limit(1),
    );
    refuse_and_then_serve(&app);
}

#[test]
fn a_concurrency_limit_outside_the_guard() {
    let app = counting().layer(
        ServiceBuilder::new()
            .concurrency_limit(1)
            .layer(BodyGuardLayer::new(MIB)),
    );
    refuse_and_then_serve(&app);
}

#[tokio::test]
async fn a_buffer_inside_the_guard() {
    // The worker of `Buffer` needs this runtime. The clients block.
    let app = counting().layer(
        ServiceBuilder::new()
            .layer(BodyGuardLayer::new(MIB))
            .layer(HandleErrorLayer::new(failed))
            .buffer(1)
            .concurrency_limit(1),
    );
    let test = tokio::task::spawn_blocking(move || refuse_and_then_serve(&app));
    tokio::time::timeout(Duration::from_secs(60), test)
        .await
        .unwrap()
        .unwrap();
}
