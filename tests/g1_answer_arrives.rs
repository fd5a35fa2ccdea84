//! G1: the answer arrives. Clients write 64 MiB before they read, no write
//! fails, the whole response comes, and the connection ends in a clean EOF.
#![cfg(feature = "axum")]

mod support;

use axum::{Router, http::StatusCode, response::Redirect, routing::post};
use support::{
    LARGE, MIB, SendFirst,
    client::{FRAMINGS, Framing, PATIENCE},
    server::{Server, guarded, limited},
};
use tower_bodyguard::LingerExt;

#[test]
fn a_refusal_arrives_whatever_the_framing() {
    let server = Server::hooked(guarded(4 * MIB));
    for framing in FRAMINGS {
        let response = SendFirst::post("/", framing, LARGE)
            .to(server.addr)
            .assert_delivered(413);
        assert!(
            response.body.contains("4194304 bytes (4 MiB)"),
            "{response:?}"
        );
    }
}

/// The meter measures: the same clients on a stock server, in the same run. What
/// hyper does there is what the hook is for; should this fail, hyper has changed.
#[test]
fn without_the_hook_the_same_clients_are_reset() {
    let server = Server::plain(limited(4 << 20));
    for framing in FRAMINGS {
        let outcome = SendFirst::post("/", framing, LARGE).to(server.addr);
        assert!(outcome.was_reset(), "{framing:?}: {outcome:?}");
    }
}

/// The guard's answer needs the hook as any other does.
#[test]
fn without_the_hook_the_guard_does_no_better() {
    let server = Server::plain(guarded(4 * MIB));
    let outcome = SendFirst::post("/", Framing::ContentLength, LARGE).to(server.addr);
    assert!(outcome.was_reset(), "{outcome:?}");
}

/// The hook mends an existing app, whatever limits it has.
#[test]
fn the_hook_alone_delivers_for_any_limit() {
    let server = Server::hooked(limited(4 << 20));
    for framing in FRAMINGS {
        SendFirst::post("/bytes", framing, LARGE)
            .to(server.addr)
            .assert_delivered(413);
    }
}

/// Sockets that the kernel does not discard for us.
#[cfg(unix)]
#[test]
fn a_refusal_arrives_over_a_unix_socket() {
    use std::os::unix::net::UnixStream;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _server = Server::run(|_, linger| {
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        async move {
            axum::serve(listener.linger_with(&linger), guarded(4 * MIB))
                .await
                .unwrap();
        }
    });
    for framing in FRAMINGS {
        let socket = UnixStream::connect(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        SendFirst::post("/", framing, LARGE)
            .over(socket)
            .assert_delivered(413);
    }
}

/// One of each kind of early answer that no guard of ours gave.
#[test]
fn early_answers_of_others_arrive() {
    let app = Router::new()
        .route(
            "/handler",
            post(|| async { (StatusCode::UNPROCESSABLE_ENTITY, "no") }),
        )
        .route("/moved", post(|| async { Redirect::to("/elsewhere") }));
    let server = Server::hooked(app);
    for framing in FRAMINGS {
        let answers = |path, status| {
            SendFirst::post(path, framing, LARGE)
                .to(server.addr)
                .assert_delivered(status)
        };
        answers("/handler", 422);
        answers("/moved", 303);
        answers("/nowhere", 404);
    }
}
