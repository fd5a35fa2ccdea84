//! A custom accept loop with hyper's HTTP/1 builder and hyper-util's automatic builder.
//! `Linger::wrap` combines socket and service.
#![cfg(feature = "axum")]

use std::io::Write;

use axum::{
    Router,
    http::StatusCode,
    routing::{get, post},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use testkit::{
    LARGE, SendFirst,
    client::{FRAMINGS, Framing, connect, read_response},
};

use crate::server::Server;

fn app() -> Router {
    Router::new()
        .route("/early", post(|| async { StatusCode::UNAUTHORIZED }))
        .route(
            "/long",
            post(|| async { (StatusCode::FORBIDDEN, "n".repeat(4 << 20)) }),
        )
        .route("/", get(|| async { "here" }))
}

fn servers() -> [Server; 2] {
    let by_http1 = Server::run(|listener, linger| async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (io, service) = linger.wrap(socket, app());
            let service = TowerToHyperService::new(service);
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(io), service));
        }
    });
    let by_auto = Server::run(|listener, linger| async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (io, service) = linger.wrap(socket, app());
            tokio::spawn(async move {
                let service = TowerToHyperService::new(service);
                let builder = auto::Builder::new(TokioExecutor::new());
                // The client asserts how the connection ended.
                let _ = builder
                    .serve_connection_with_upgrades(TokioIo::new(io), service)
                    .await;
            });
        }
    });
    [by_http1, by_auto]
}

#[test]
fn early_responses_arrive() {
    for server in servers() {
        for framing in FRAMINGS {
            for (path, status) in [("/early", 401), ("/long", 403), ("/nowhere", 404)] {
                SendFirst::post(path, framing, LARGE)
                    .to(server.addr)
                    .assert_delivered(status);
            }
        }
    }
}

#[test]
fn connections_are_kept() {
    for server in servers() {
        let mut socket = connect(server.addr);
        for _ in 0..5 {
            let upload = SendFirst::post("/early", Framing::ContentLength, 100_000);
            upload.write(&mut socket).unwrap();
            assert_eq!(read_response(&mut socket).unwrap().status, 401);
        }
    }
}

#[test]
fn clean_closes_make_no_linger() {
    for server in servers() {
        for _ in 0..100 {
            let mut socket = connect(server.addr);
            let get = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
            socket.write_all(get).unwrap();
            assert_eq!(read_response(&mut socket).unwrap().body, "here");
        }
        assert_eq!(server.linger.stats().started, 0);
    }
}
