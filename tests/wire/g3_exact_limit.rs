//! G3: N bytes pass and N + 1 are refused, for both framings and any split.
#![cfg(feature = "axum")]

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpStream},
};

use proptest::{prelude::*, test_runner::TestRunner};
use testkit::client::{FRAMINGS, Framing, Response, connect, read_to_end, write_chunk};
use tower::Layer;
use tower_bodyguard::BodyGuardLayer;

use crate::server::{Server, counting, guarded};

const LIMIT: u64 = 1000;

/// Returns both servers with the limit in the app, and one with the limit around the app.
fn servers(limit: u64) -> [Server; 3] {
    let [wrapped, combined] = Server::both(&guarded(limit));
    let around = Server::run(move |listener, linger| async move {
        let app = BodyGuardLayer::axum(limit).layer(counting());
        let server = tower_bodyguard::axum::serve(listener, app);
        server.with_linger(&linger).await.unwrap();
    });
    [wrapped, combined, around]
}

/// Sends the pieces, each flushed separately, and returns the response.
fn send(addr: SocketAddr, framing: Framing, pieces: &[usize]) -> Response {
    let mut socket = connect(addr);
    socket.set_nodelay(true).unwrap();
    write(&mut socket, framing, pieces).expect("no write fails");
    let (received, _) = read_to_end(&mut socket);
    Response::parse(&received).expect("a whole response").0
}

fn write(socket: &mut TcpStream, framing: Framing, pieces: &[usize]) -> io::Result<()> {
    let framed = match framing {
        Framing::ContentLength => format!("Content-Length: {}", pieces.iter().sum::<usize>()),
        Framing::Chunked => "Transfer-Encoding: chunked".to_owned(),
    };
    write!(
        socket,
        "POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{framed}\r\n\r\n"
    )?;
    for &piece in pieces {
        let piece = vec![b'.'; piece];
        match framing {
            Framing::ContentLength => socket.write_all(&piece)?,
            Framing::Chunked => write_chunk(socket, &piece)?,
        }
    }
    match framing {
        Framing::ContentLength => Ok(()),
        Framing::Chunked => socket.write_all(b"0\r\n\r\n"),
    }
}

#[test]
fn the_last_byte_decides() {
    for server in servers(LIMIT) {
        for framing in FRAMINGS {
            let at = send(server.addr, framing, &[1000]);
            assert_eq!((at.status, at.body.as_str()), (200, "1000"), "{framing:?}");
            let over = send(server.addr, framing, &[1001]);
            assert_eq!(over.status, 413, "{framing:?}");
            assert!(over.body.contains("1000 bytes"), "{over:?}");
        }
    }
}

#[test]
fn a_limit_of_nothing_admits_nothing() {
    for server in servers(0) {
        for framing in FRAMINGS {
            assert_eq!(send(server.addr, framing, &[]).body, "0");
            assert_eq!(send(server.addr, framing, &[1]).status, 413);
        }
    }
}

/// The model compares the sum of the pieces with the limit.
#[test]
fn random_splits_agree_with_the_sum() {
    for server in servers(LIMIT) {
        let pieces = prop::collection::vec(1usize..400, 0..8);
        let framing = prop::sample::select(&FRAMINGS[..]);
        TestRunner::new(ProptestConfig::with_cases(200))
            .run(&(framing, pieces), |(framing, pieces)| {
                let sum: usize = pieces.iter().sum();
                let response = send(server.addr, framing, &pieces);
                if sum as u64 <= LIMIT {
                    prop_assert_eq!((response.status, response.body), (200, sum.to_string()));
                } else {
                    prop_assert_eq!(response.status, 413);
                }
                Ok(())
            })
            .unwrap();
    }
}
