//! G4: over the limit, the response is the refusal, whatever the handler did.
#![cfg(feature = "axum")]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Form, Json, Router,
    body::{Body, Bytes},
    extract::DefaultBodyLimit,
    http::{Request, StatusCode},
    routing::{any, post},
};
use futures_util::StreamExt;
use testkit::{
    LARGE, MIB, SendFirst,
    client::{Ended, FRAMINGS, Framing, connect, read_to_end},
};
use tower::ServiceExt;
use tower_bodyguard::{BodyGuardLayer, Refusal};

use crate::server::{Server, guarded, multipart};

/// Keeps polling after an error and ignores it, as a careless handler does.
async fn swallow(body: Body) -> &'static str {
    let mut frames = body.into_data_stream();
    while let Some(Ok(_)) = frames.next().await {}
    "all is well"
}

fn extractors() -> Router {
    Router::new()
        .route("/swallow", post(swallow))
        .route("/bytes", post(|_: Bytes| async {}))
        .route("/string", post(|_: String| async {}))
        .route("/json", post(|_: Json<Vec<u8>>| async {}))
        .route("/form", post(|_: Form<Vec<(String, String)>>| async {}))
        .route("/multipart", post(multipart))
        .layer(DefaultBodyLimit::disable())
}

const TYPED: [(&str, &str); 5] = [
    ("/swallow", "text/plain"),
    ("/bytes", "text/plain"),
    ("/string", "text/plain"),
    ("/json", "application/json"),
    ("/form", "application/x-www-form-urlencoded"),
];

#[test]
fn every_extractor_ends_in_the_refusal() {
    let guard = || BodyGuardLayer::new(MIB);
    let once = extractors().layer(guard());
    let nested = extractors()
        .layer(guard())
        .layer(BodyGuardLayer::axum(2 * MIB));
    let beside_axums_own = extractors()
        .layer(DefaultBodyLimit::max(1 << 30))
        .layer(guard());
    let in_axums_terms = extractors().layer(guard());
    for app in [once, nested, beside_axums_own, in_axums_terms] {
        for server in Server::both(&app) {
            for framing in FRAMINGS {
                for (path, kind) in TYPED {
                    SendFirst::post(path, framing, LARGE)
                        .header(&format!("Content-Type: {kind}"))
                        .to(server.addr)
                        .assert_delivered(413);
                }
                SendFirst::form("/multipart", framing, LARGE)
                    .to(server.addr)
                    .assert_delivered(413);
            }
        }
    }
}

#[test]
fn of_nested_guards_the_smaller_holds() {
    let inner_smaller = guarded(MIB).layer(BodyGuardLayer::new(4 * MIB));
    let outer_smaller = guarded(4 * MIB).layer(BodyGuardLayer::new(MIB));
    for app in [inner_smaller, outer_smaller] {
        for server in Server::both(&app) {
            for framing in FRAMINGS {
                let response = SendFirst::post("/", framing, 2 * MIB)
                    .to(server.addr)
                    .assert_delivered(413);
                assert!(response.body.contains("limit is 1 MiB"), "{response:?}");
            }
        }
    }
}

#[test]
fn no_byte_beyond_the_limit_reaches_the_handler() {
    let seen = Arc::new(AtomicU64::new(0));
    let count = {
        let seen = Arc::clone(&seen);
        move |body: Body| async move {
            let mut frames = body.into_data_stream();
            while let Some(Ok(frame)) = frames.next().await {
                seen.fetch_add(frame.len() as u64, Ordering::SeqCst);
            }
        }
    };
    let app = Router::new()
        .route("/", any(count))
        .layer(BodyGuardLayer::new(MIB));
    for server in Server::both(&app) {
        SendFirst::post("/", Framing::ContentLength, LARGE)
            .to(server.addr)
            .assert_delivered(413);
        assert_eq!(seen.load(Ordering::SeqCst), 0, "the service was called");

        SendFirst::post("/", Framing::Chunked, LARGE)
            .to(server.addr)
            .assert_delivered(413);
        let seen = seen.swap(0, Ordering::SeqCst);
        assert!((1..=MIB).contains(&seen), "{seen}");
    }
}

#[test]
fn a_response_in_progress_is_aborted() {
    // Responds while it reads. If reading fails, it ends the response as if it were complete.
    async fn echo(body: Body) -> Body {
        let frames = body.into_data_stream().take_while(|frame| {
            let ok = frame.is_ok();
            async move { ok }
        });
        Body::from_stream(frames)
    }
    // Declares a length, and then sends less.
    async fn promise(body: Body) -> ([(&'static str, &'static str); 1], Body) {
        ([("content-length", "67108864")], echo(body).await)
    }
    let app = Router::new()
        .route("/chunked", post(echo))
        .route("/promise", post(promise));
    let guard = BodyGuardLayer::axum(MIB);
    let apps = [app.clone().layer(guard.clone()), app.layer(guard)];
    for server in apps.iter().flat_map(Server::both) {
        for (path, last_chunk_or_length) in [("/chunked", "0\r\n\r\n"), ("/promise", "")] {
            let mut socket = connect(server.addr);
            let mut writer = socket.try_clone().unwrap();
            // The upload runs on its own thread, because an echo needs a client that reads.
            let writes = std::thread::spawn(move || {
                let _ = SendFirst::post(path, Framing::Chunked, 2 * MIB).write(&mut writer);
            });
            let (received, ended) = read_to_end(&mut socket);
            writes.join().unwrap();
            let text = String::from_utf8_lossy(&received);
            assert!(text.starts_with("HTTP/1.1 200"), "{path}: {text:.200}");
            let complete = match ended {
                Ended::Badly(_) => false,
                Ended::Cleanly if last_chunk_or_length.is_empty() => received.len() as u64 > LARGE,
                Ended::Cleanly => text.ends_with(last_chunk_or_length),
            };
            assert!(
                !complete,
                "{path}: looks whole, with {} bytes",
                received.len()
            );
        }
    }
}

#[test]
fn the_status_can_be_another() {
    let app =
        crate::server::counting().layer(BodyGuardLayer::new(MIB).status(StatusCode::BAD_REQUEST));
    for server in Server::both(&app) {
        for framing in FRAMINGS {
            SendFirst::post("/", framing, LARGE)
                .to(server.addr)
                .assert_delivered(400);
        }
    }
}

#[tokio::test]
async fn bad_lengths_are_refused_without_hyper_in_front() {
    for bad in [
        &["x"][..],
        &["+1"],
        &["-1"],
        &["1, 1"],
        &["1", "2"],
        &["99999999999999999999"],
    ] {
        let mut request = Request::post("/");
        for value in bad {
            request = request.header("content-length", *value);
        }
        let app = guarded(MIB);
        let request = request.body(Body::from("x")).unwrap();
        let response = app
            .oneshot(request)
            .await
            .unwrap_or_else(|e: Infallible| match e {});
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{bad:?}");
        assert!(response.headers().contains_key("content-length"));
    }
}

#[tokio::test]
async fn the_refusal_is_in_the_extensions() {
    let request = Request::post("/").body(Body::from(vec![0; 2000])).unwrap();
    let response = guarded(1000).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let refusal = response.extensions().get::<Refusal>().expect("it is there");
    assert_eq!(
        (refusal.limit(), refusal.received()),
        (Some(1000), Some(2000))
    );
}

#[tokio::test]
async fn a_refused_head_has_no_body_but_its_length() {
    let request = Request::head("/")
        .header("content-length", "2000")
        .body(Body::from(vec![0; 2000]))
        .unwrap();
    let response = guarded(1000).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let length: usize = response.headers()["content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(length > 0);
    let body = axum::body::to_bytes(response.into_body(), 1000)
        .await
        .unwrap();
    assert!(body.is_empty());
}
