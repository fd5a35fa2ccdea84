//! Two limits for compressed uploads. The limit layer outside of the decompression limits the bytes
//! on the wire, the one inside limits the decompressed bytes in memory.
#![cfg(feature = "axum")]

use std::{
    convert::Infallible,
    io::{Read, copy, repeat},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::DefaultBodyLimit,
    http::{Request, Response as HttpResponse},
    routing::any,
};
use flate2::{Compression, write::GzEncoder};
use futures_util::StreamExt;
use testkit::{
    LARGE, MIB, SendFirst,
    client::{FRAMINGS, Framing, Response},
};
use tower::{Layer, Service, ServiceBuilder, service_fn};
use tower_bodyguard::{BodyBudget, BodyGuardLayer, GuardedBody};
use tower_http::decompression::RequestDecompressionLayer;

use crate::server::Server;

/// The limit on the wire.
const WIRE: u64 = MIB;
/// The limit in memory.
const MEMORY: u64 = 4 * MIB;

/// 64 MiB of zeros, compressed.
static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| gzip(LARGE, Compression::best()));

fn gzip(length: u64, level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    copy(&mut repeat(0).take(length), &mut encoder).unwrap();
    encoder.finish().unwrap()
}

/// Counts the decompressed bytes that reached the handler.
#[derive(Clone, Default)]
struct Reached(Arc<AtomicU64>);

impl Reached {
    /// Returns an app that counts what it reads, and takes an error for the end.
    fn by(&self) -> Router {
        let reached = self.clone();
        let count = move |body: Body| async move {
            let mut frames = body.into_data_stream();
            let mut sum = 0;
            while let Some(Ok(data)) = frames.next().await {
                sum += data.len() as u64;
                reached.0.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            sum.to_string()
        };
        Router::new()
            .route("/", any(count))
            .layer(DefaultBodyLimit::disable())
    }

    fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn decompress() -> RequestDecompressionLayer {
    RequestDecompressionLayer::new()
}

/// Sends the whole of `body` before it reads.
fn send(server: &Server, framing: Framing, body: &[u8], status: u16) -> Response {
    let mut upload = SendFirst::post("/", framing, body.len() as u64)
        .header("Content-Encoding: gzip")
        .header("Connection: close");
    upload.prefix = body.to_vec();
    upload.to(server.addr).assert_delivered(status)
}

#[track_caller]
fn assert_says(response: &Response, limit: &str) {
    assert!(response.body.contains(limit), "{response:?}");
}

/// Negative control: the upload is small, so a limit on the wire does not refuse it.
#[test]
fn a_bomb_passes_a_guard_that_is_outside_only() {
    let reached = Reached::default();
    let stack = ServiceBuilder::new()
        .layer(BodyGuardLayer::new(WIRE))
        .layer(decompress());
    for server in Server::both(&reached.by().layer(stack)) {
        for framing in FRAMINGS {
            let response = send(&server, framing, &BOMB, 200);
            assert_eq!(response.body, LARGE.to_string());
            assert_eq!(reached.take(), LARGE);
        }
    }
}

#[test]
fn a_guard_inside_stops_a_bomb_at_its_limit() {
    assert!(BOMB.len() < 70_000, "{}", BOMB.len());
    let reached = Reached::default();
    let stack = ServiceBuilder::new()
        .layer(decompress())
        .layer(BodyGuardLayer::new(MEMORY));
    for server in Server::both(&reached.by().layer(stack)) {
        for framing in FRAMINGS {
            let response = send(&server, framing, &BOMB, 413);
            assert_says(&response, "limit is 4 MiB");
            // Each frame passes whole or not at all, and frames are small.
            assert!((MEMORY - MIB..=MEMORY).contains(&reached.take()));
        }
    }
}

/// An uncompressed upload declares its length and is refused by that.
#[test]
fn a_guard_inside_sees_the_length_of_what_is_not_compressed() {
    let reached = Reached::default();
    let stack = ServiceBuilder::new()
        .layer(decompress())
        .layer(BodyGuardLayer::new(MEMORY));
    for server in Server::both(&reached.by().layer(stack)) {
        let response = SendFirst::post("/", Framing::ContentLength, LARGE)
            .to(server.addr)
            .assert_delivered(413);
        assert_says(&response, "Upload too large: 64 MiB. The limit is 4 MiB.");
        assert_eq!(reached.take(), 0);
    }
}

/// The decompressed body has no known length.
#[test]
fn a_length_is_for_the_outer_guard_to_require() {
    let fits = gzip(MEMORY, Compression::best());
    let wire = || BodyGuardLayer::new(WIRE);
    let memory = || BodyGuardLayer::new(MEMORY);
    let app = Reached::default().by();
    let outer = ServiceBuilder::new()
        .layer(wire().require_content_length())
        .layer(decompress())
        .layer(memory());
    let inner = ServiceBuilder::new()
        .layer(wire())
        .layer(decompress())
        .layer(memory().require_content_length());
    for (app, status) in [(app.clone().layer(outer), 200), (app.layer(inner), 411)] {
        for server in Server::both(&app) {
            send(&server, Framing::ContentLength, &fits, status);
        }
    }
}

fn both_limits(app: Router) -> Router {
    app.layer(
        ServiceBuilder::new()
            .layer(BodyGuardLayer::new(WIRE))
            .layer(decompress())
            .layer(BodyGuardLayer::new(MEMORY)),
    )
}

#[test]
fn of_two_guards_each_holds_its_own_limit() {
    // The data is stored without compression: as large on the wire as in memory.
    let stored = gzip(LARGE, Compression::none());
    let reached = Reached::default();
    for server in Server::both(&both_limits(reached.by())) {
        let response = send(&server, Framing::ContentLength, &stored, 413);
        assert_says(&response, "limit is 1 MiB");
        assert_eq!(reached.take(), 0);

        let response = send(&server, Framing::Chunked, &stored, 413);
        assert_says(&response, "limit is 1 MiB");
        assert!(reached.take() <= WIRE);

        for framing in FRAMINGS {
            let response = send(&server, framing, &BOMB, 413);
            assert_says(&response, "limit is 4 MiB");
            assert!(reached.take() <= MEMORY);
        }
    }
}

/// Another upload holds all of the budget except for 1 MiB.
#[test]
fn budget_inside_counts_decompressed_bytes() {
    let budget = BodyBudget::max_bytes(8 * MIB);
    let holder = BodyGuardLayer::new(7 * MIB).budget(&budget);
    let mut holder = holder.layer(service_fn(|_: Request<GuardedBody<Body>>| {
        std::future::pending::<Result<HttpResponse<Body>, Infallible>>()
    }));
    let held = holder.call(Request::new(Body::from(vec![0; 7 << 20])));
    assert_eq!(budget.used_bytes(), 7 * MIB);

    let reached = Reached::default();
    let stack = ServiceBuilder::new()
        .layer(BodyGuardLayer::new(WIRE))
        .layer(decompress())
        .layer(BodyGuardLayer::new(MEMORY).budget(&budget));
    for server in Server::both(&reached.by().layer(stack)) {
        for framing in FRAMINGS {
            send(&server, framing, &BOMB, 503);
            assert!((MIB / 2..=MIB).contains(&reached.take()));
        }
        assert_eq!(budget.used_bytes(), 7 * MIB);
    }
    drop(held);
}

#[test]
fn exactly_the_limit_passes_in_memory() {
    let fits = gzip(MEMORY, Compression::best());
    let over = gzip(MEMORY + 1, Compression::best());
    let reached = Reached::default();
    for server in Server::both(&both_limits(reached.by())) {
        for framing in FRAMINGS {
            let response = send(&server, framing, &fits, 200);
            assert_eq!(response.body, MEMORY.to_string());
            assert_eq!(reached.take(), MEMORY);

            let response = send(&server, framing, &over, 413);
            assert_says(&response, "the limit is 4 MiB. Choose a smaller file.");
            assert!(reached.take() <= MEMORY);
        }
    }
}

#[test]
fn exactly_the_limit_passes_on_the_wire() {
    let wire = BOMB.len() as u64;
    for (limit, status) in [(wire, 200), (wire - 1, 413)] {
        let stack = ServiceBuilder::new()
            .layer(BodyGuardLayer::new(limit))
            .layer(decompress());
        for server in Server::both(&Reached::default().by().layer(stack)) {
            for framing in FRAMINGS {
                send(&server, framing, &BOMB, status);
            }
        }
    }
}
