//! The behaviour of a stock axum server under the same tests. This is the reason for this crate,
//! and its foundation. A failure here means that hyper has changed.
#![cfg(feature = "axum")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::post};
#[cfg(unix)]
use testkit::client::connect_unix;
use testkit::{
    LARGE, SendFirst,
    client::{FRAMINGS, Framing, Response, connect, read_response, read_to_end, write_chunk},
};

use crate::server::{Server, limited};

fn stock() -> Server {
    Server::plain(Router::new().route("/", post(|| async { StatusCode::UNAUTHORIZED })))
}

/// Returns whether nothing but the end of the connection follows.
fn is_closed(socket: &mut TcpStream) -> bool {
    !matches!(socket.read(&mut [0]), Ok(1..))
}

#[test]
fn it_closes_without_having_said_so() {
    let server = stock();
    for framing in FRAMINGS {
        for length in [100, 100_000, LARGE] {
            let mut socket = connect(server.addr);
            let upload = SendFirst::post("/", framing, length);
            socket.write_all(upload.head().as_bytes()).unwrap();
            let response = read_response(&mut socket).unwrap();
            assert_eq!(
                (response.status, response.header("connection")),
                (401, None)
            );
            assert!(is_closed(&mut socket));
        }
    }
}

#[test]
fn it_closes_without_having_said_so_after_a_body_over_a_limit() {
    let server = Server::plain(limited(1000));
    let mut socket = connect(server.addr);
    let head = SendFirst::post("/bytes", Framing::Chunked, 0).head();
    socket.write_all(head.as_bytes()).unwrap();
    write_chunk(&mut socket, &[0; 1001]).unwrap();
    let response = read_response(&mut socket).unwrap();
    assert_eq!(
        (response.status, response.header("connection")),
        (413, None)
    );
    assert!(is_closed(&mut socket));
}

/// Each side waits for the other to read. A write that makes no progress reveals it.
#[test]
fn a_long_response_and_a_client_that_sends_first_block_each_other() {
    // More than the buffers of both sides may grow to.
    let long = || async { (StatusCode::FORBIDDEN, "n".repeat(32 << 20)) };
    let app = Router::new().route("/", post(long));
    for server in [Server::plain(app.clone()), Server::wrapped(app)] {
        let mut socket = connect(server.addr);
        let stuck = Some(Duration::from_secs(1));
        socket.set_write_timeout(stuck).unwrap();
        let upload = SendFirst::post("/", Framing::ContentLength, LARGE);
        let error = upload.write(&mut socket).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    }
}

#[test]
fn it_keeps_the_connection_where_one_read_has_the_rest() {
    let server = stock();
    let mut socket = connect(server.addr);
    for _ in 0..3 {
        let mut request = Vec::new();
        let upload = SendFirst::post("/", Framing::ContentLength, 100);
        upload.write(&mut request).unwrap();
        socket.write_all(&request).unwrap();
        assert_eq!(read_response(&mut socket).unwrap().status, 401);
    }
}

#[test]
fn it_resets_those_who_asked_for_a_close_or_an_upgrade() {
    let server = stock();
    for line in [
        "Connection: close",
        "Connection: Upgrade\r\nUpgrade: h2c",
        "Expect: 100-continue",
    ] {
        let upload = SendFirst::post("/", Framing::ContentLength, LARGE).header(line);
        let outcome = upload.to(server.addr);
        assert!(outcome.was_reset(), "{line}: {outcome:?}");
    }
    let mut socket = connect(server.addr);
    write!(socket, "POST / HTTP/1.0\r\nContent-Length: {LARGE}\r\n\r\n").unwrap();
    let zeros = vec![0; 1 << 20];
    let writes = (0..LARGE >> 20).try_for_each(|_| socket.write_all(&zeros));
    assert!(writes.is_err());
}

#[test]
fn it_decides_before_a_100() {
    let server = stock();
    let mut socket = connect(server.addr);
    let upload = SendFirst::post("/", Framing::ContentLength, 1000).header("Expect: 100-continue");
    socket.write_all(upload.head().as_bytes()).unwrap();
    let response = read_response(&mut socket).unwrap();
    assert_eq!(
        (response.status, response.header("connection")),
        (401, None)
    );
    assert!(is_closed(&mut socket));
}

#[test]
fn nothing_behind_a_refused_body_gets_a_response() {
    let server = stock();
    for framing in FRAMINGS {
        let mut socket = connect(server.addr);
        let mut upload = SendFirst::post("/", framing, 3 << 20);
        upload.prefix = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n".repeat(1000);
        // The server usually resets the connection during this write.
        let _ = upload.write(&mut socket);
        let _ = SendFirst::post("/", Framing::ContentLength, 0).write(&mut socket);
        let (received, _) = read_to_end(&mut socket);
        let rest = Response::parse(&received).map(|(_, rest)| rest.len());
        assert!(matches!(rest, None | Some(0)), "a second response");
    }
}

#[test]
fn client_that_half_closes_in_mid_body_gets_a_response() {
    let server = stock();
    let mut socket = connect(server.addr);
    let head = SendFirst::post("/", Framing::ContentLength, LARGE).head();
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(&[0; 1000]).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_response(&mut socket).unwrap().status, 401);
}

/// `mid_message_detect_eof`: hyper treats a client that half-closes as a client that left.
#[test]
fn it_has_no_late_response_for_a_client_that_half_closed() {
    let late = |_: axum::body::Bytes| std::future::pending::<()>();
    let server = Server::plain(Router::new().route("/", post(late)));
    let mut socket = connect(server.addr);
    let upload = SendFirst::post("/", Framing::ContentLength, 1000);
    upload.write(&mut socket).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let (received, _) = read_to_end(&mut socket);
    assert_eq!(received, b"");
}

#[cfg(unix)]
#[test]
fn it_resets_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _server = Server::run(|_, _| {
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let app = Router::new().route("/", post(|| async { StatusCode::UNAUTHORIZED }));
        async move { axum::serve(listener, app).await.unwrap() }
    });
    let socket = connect_unix(&path);
    let outcome = SendFirst::post("/", Framing::ContentLength, LARGE).over(socket);
    assert!(outcome.was_reset(), "{outcome:?}");
}
