//! Upgraded connections are let alone, and `ConnectInfo` goes on working.
#![cfg(feature = "axum")]

mod support;

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr},
    sync::{Arc, Mutex, mpsc},
};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::rt::TokioIo;
use support::{
    client::{PATIENCE, connect, read_head, read_response},
    server::Server,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_bodyguard::LingerExt;

/// A tunnel whose server says goodbye, closes its sending side, and reads on: it tells
/// how many bytes it read in all.
fn tunnel() -> (Router, mpsc::Receiver<usize>) {
    let (told, tells) = mpsc::channel();
    let told = Arc::new(Mutex::new(told));
    let serve = move |request: Request| async move {
        let upgrade = hyper::upgrade::on(request);
        tokio::spawn(async move {
            let mut tunnel = TokioIo::new(upgrade.await.unwrap());
            let mut first = [0; 5];
            tunnel.read_exact(&mut first).await.unwrap();
            tunnel.write_all(b"goodbye").await.unwrap();
            tunnel.shutdown().await.unwrap();
            let mut rest = Vec::new();
            tunnel.read_to_end(&mut rest).await.unwrap();
            told.lock().unwrap().send(first.len() + rest.len()).unwrap();
        });
        let headers = [("connection", "upgrade"), ("upgrade", "tunnel")];
        let response: Response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
        response
    };
    (Router::new().route("/", get(serve)), tells)
}

#[test]
fn a_tunnel_is_readable_after_its_half_close() {
    for serve in [Server::hooked, Server::joined] {
        let (app, tells) = tunnel();
        let server = serve(app);
        let mut socket = connect(server.addr);
        let ask = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: tunnel\r\n\r\n";
        socket.write_all(ask).unwrap();
        assert!(read_head(&mut socket).starts_with("HTTP/1.1 101 "));
        socket.write_all(b"hello").unwrap();
        let mut goodbye = String::new();
        socket.read_to_string(&mut goodbye).unwrap();
        assert_eq!(goodbye, "goodbye");
        // The server has half-closed, and every byte still reaches it.
        socket.write_all(&vec![0; 10_000_000]).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(tells.recv_timeout(PATIENCE).unwrap(), 10_000_005);
    }
}

#[test]
fn connect_info_goes_on_working() {
    let app = || {
        let from = |ConnectInfo(from): ConnectInfo<SocketAddr>| async move { from.to_string() };
        let app = Router::new().route("/", get(from));
        app.into_make_service_with_connect_info::<SocketAddr>()
    };
    let hooked = Server::run(|listener, linger| async move {
        axum::serve(listener.linger_with(&linger), app())
            .await
            .unwrap();
    });
    let joined = Server::run(|listener, linger| async move {
        linger.serve(listener, app()).await.unwrap();
    });
    for server in [hooked, joined] {
        let mut socket = connect(server.addr);
        socket
            .write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            .unwrap();
        let said = read_response(&mut socket).unwrap().body;
        assert_eq!(said, socket.local_addr().unwrap().to_string());
    }
}
