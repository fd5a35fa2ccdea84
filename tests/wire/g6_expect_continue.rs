//! G6: the server never sends a 100 to `Expect: 100-continue` if the head already decides the
//! response (RFC 9110 §10.1.1). The first bytes on the wire are the final status.
#![cfg(feature = "axum")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use axum::{Router, http::StatusCode, routing::post};
use testkit::{
    LARGE, MIB, SendFirst,
    client::{Framing, Response, connect, read_response, read_to_end},
};
use tower_bodyguard::{BodyGuardLayer, DeliveryLayer};

use crate::server::{Server, counting};

fn app() -> Router {
    counting()
        .route("/denied", post(|| async { StatusCode::UNAUTHORIZED }))
        .layer(BodyGuardLayer::new(MIB))
}

fn servers() -> [Server; 3] {
    let [hooked, joined] = Server::both(&app());
    let by_layer = Server::wrapped(app().layer(DeliveryLayer::default()));
    [hooked, joined, by_layer]
}

fn expecting(path: &'static str, length: u64) -> SendFirst {
    SendFirst::post(path, Framing::ContentLength, length).header("Expect: 100-continue")
}

fn ask(addr: SocketAddr, request: &SendFirst) -> TcpStream {
    let mut socket = connect(addr);
    socket.write_all(request.head().as_bytes()).unwrap();
    socket
}

#[test]
fn the_final_status_comes_first() {
    for server in servers() {
        for (path, length, status) in [("/", LARGE, 413), ("/denied", 100_000, 401)] {
            // The client waits and never sends. It gets one response and the end of the connection.
            let mut socket = ask(server.addr, &expecting(path, length));
            let response = read_response(&mut socket).unwrap();
            assert_eq!(response.status, status);
            assert_eq!(socket.read(&mut [0]).unwrap(), 0, "the connection stays");
        }
    }
}

#[test]
fn combined_it_says_that_it_closes() {
    let server = Server::combined(app());
    let mut socket = ask(server.addr, &expecting("/denied", 100_000));
    let response = read_response(&mut socket).unwrap();
    assert_eq!(response.header("connection"), Some("close"));
}

/// Clients do not wait indefinitely: curl waits a second, and some do not wait.
#[test]
fn a_client_that_does_not_wait_gets_the_response_too() {
    for server in servers() {
        for (path, length, status) in [("/", LARGE, 413), ("/denied", 100_000, 401)] {
            expecting(path, length)
                .to(server.addr)
                .assert_delivered(status);
        }
    }
}

/// The test above must not pass just because the server never sends a 100.
#[test]
fn a_body_that_is_wanted_is_asked_for() {
    for server in servers() {
        let request = expecting("/", 1000).header("Connection: close");
        let mut socket = ask(server.addr, &request);
        let mut first = [0; 25];
        socket.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
        socket.write_all(&[0; 1000]).unwrap();
        let (received, _) = read_to_end(&mut socket);
        assert_eq!(Response::parse(&received).unwrap().0.body, "1000");
    }
}
