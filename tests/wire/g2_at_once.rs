//! G2: the response is never held back until the body has been drained. Clients that send part of
//! the body, or none of it, and then wait still get the response.
#![cfg(feature = "axum")]

use std::{io::Write, net::SocketAddr};

use axum::{Router, http::StatusCode, routing::post};
use testkit::{
    LARGE, MIB, SendFirst,
    client::{Framing, Response, connect, read_response, write_chunk},
};

use crate::server::{Server, guarded};

/// Sends the head and `part` of the body, then reads.
fn waits_after(addr: SocketAddr, request: &SendFirst, part: usize) -> Response {
    let mut socket = connect(addr);
    socket.write_all(request.head().as_bytes()).unwrap();
    let part = vec![b'0'; part];
    match request.framing {
        Framing::ContentLength => socket.write_all(&part).unwrap(),
        Framing::Chunked => write_chunk(&mut socket, &part).unwrap(),
    }
    read_response(&mut socket).expect("a response before the body")
}

#[test]
fn a_declared_length_is_refused_before_the_body_comes() {
    for server in Server::both(&guarded(MIB)) {
        for part in [0, 1, 100_000] {
            // One length makes the server close, the other is drained.
            for length in [LARGE, MIB + 100_001] {
                let upload = SendFirst::post("/", Framing::ContentLength, length);
                assert_eq!(waits_after(server.addr, &upload, part).status, 413);
            }
        }
    }
}

#[test]
fn a_streamed_length_is_refused_at_the_limit() {
    for server in Server::both(&guarded(1000)) {
        let upload = SendFirst::post("/", Framing::Chunked, LARGE);
        assert_eq!(waits_after(server.addr, &upload, 1001).status, 413);
    }
}

#[test]
fn a_handlers_early_response_does_not_wait() {
    let app = Router::new().route("/", post(|| async { StatusCode::UNAUTHORIZED }));
    for server in Server::both(&app) {
        for framing in [Framing::ContentLength, Framing::Chunked] {
            for length in [100_000, LARGE] {
                let upload = SendFirst::post("/", framing, length);
                assert_eq!(waits_after(server.addr, &upload, 1).status, 401);
            }
        }
    }
}
