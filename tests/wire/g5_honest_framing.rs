//! G5: either an early response is sent with `Connection: close`, or the same connection serves the
//! next request. Unread body bytes are never parsed as a request.
#![cfg(feature = "axum")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    http::StatusCode,
    routing::{get, post},
};
use futures_util::StreamExt;
use testkit::{
    LARGE, SendFirst,
    client::{
        Ended, FRAMINGS, Framing, Response, connect, read_response, read_to_end, write_chunk,
    },
};

use crate::server::Server;

/// Returns the app. `/early` responds without reading, `/first` after one frame, and `/count` with
/// the number of its earlier calls.
fn app() -> Router {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = move || async move { asked.fetch_add(1, Ordering::SeqCst).to_string() };
    Router::new()
        .route("/early", post(|| async { StatusCode::UNAUTHORIZED }))
        .route(
            "/first",
            post(|body: Body| async { drop(body.into_data_stream().next().await) }),
        )
        .route("/count", get(count))
}

/// Returns two servers, each with its own count.
fn both() -> [Server; 2] {
    [Server::wrapped(app()), Server::combined(app())]
}

const COUNT: &str = "GET /count HTTP/1.1\r\nHost: test\r\n\r\n";

fn exchange(socket: &mut TcpStream, request: &SendFirst) -> Response {
    request.write(socket).unwrap();
    read_response(socket).unwrap()
}

/// RFC 9112 §9.3: the server reads the whole body, or closes after the response.
#[test]
fn five_early_responses_travel_on_one_connection() {
    let server = Server::combined(app());
    let mut socket = connect(server.addr);
    for _ in 0..5 {
        let upload = SendFirst::post("/early", Framing::ContentLength, 100_000);
        let response = exchange(&mut socket, &upload);
        assert_eq!(response.status, 401);
        assert_eq!(response.header("connection"), None);
    }
    assert_eq!(server.linger.stats().started, 0);
}

/// The connection is also kept if the body arrives late and is drained in the background.
#[test]
fn a_rest_that_comes_later_keeps_the_connection() {
    let server = Server::combined(app());
    let mut socket = connect(server.addr);
    for _ in 0..5 {
        let upload = SendFirst::post("/early", Framing::ContentLength, 100_000);
        socket.write_all(upload.head().as_bytes()).unwrap();
        assert_eq!(read_response(&mut socket).unwrap().status, 401);
        socket.write_all(&vec![0; 100_000]).unwrap();
    }
    socket.write_all(COUNT.as_bytes()).unwrap();
    assert_eq!(read_response(&mut socket).unwrap().body, "0");
}

/// Extractors stop before the terminator. Stock hyper keeps such a connection, so we must keep it,
/// too.
#[test]
fn five_unread_terminators_travel_on_one_connection() {
    for server in Server::both(&app())
        .into_iter()
        .chain([Server::plain(app())])
    {
        let mut socket = connect(server.addr);
        for _ in 0..5 {
            let head = SendFirst::post("/first", Framing::Chunked, 0).head();
            let mut request = head.into_bytes();
            write_chunk(&mut request, b"all there is").unwrap();
            request.extend_from_slice(b"0\r\n\r\n");
            socket.write_all(&request).unwrap();
            let response = read_response(&mut socket).unwrap();
            assert_eq!(
                (response.status, response.header("connection")),
                (200, None)
            );
        }
    }
}

/// The client holds the terminator back until the response has arrived.
#[test]
fn a_late_terminator_keeps_the_connection() {
    let server = Server::combined(app());
    let mut socket = connect(server.addr);
    for _ in 0..5 {
        let head = SendFirst::post("/first", Framing::Chunked, 0).head();
        socket.write_all(head.as_bytes()).unwrap();
        write_chunk(&mut socket, b"all there is").unwrap();
        assert_eq!(read_response(&mut socket).unwrap().status, 200);
        socket.write_all(b"0\r\n\r\n").unwrap();
    }
    socket.write_all(COUNT.as_bytes()).unwrap();
    assert_eq!(read_response(&mut socket).unwrap().body, "0");
}

#[test]
fn response_to_an_undrained_body_has_connection_close() {
    let server = Server::combined(app());
    for (framing, length) in [
        (Framing::ContentLength, LARGE),
        (Framing::ContentLength, (1 << 20) + 1),
        (Framing::Chunked, LARGE),
    ] {
        let response = SendFirst::post("/early", framing, length)
            .to(server.addr)
            .assert_delivered(401);
        assert_eq!(response.header("connection"), Some("close"));
    }
}

/// RFC 9112 §9.6: nothing is processed after `close`.
#[test]
fn a_request_behind_a_closed_one_gets_no_response() {
    for server in both() {
        for framing in FRAMINGS {
            let mut socket = connect(server.addr);
            let upload = SendFirst::post("/early", framing, LARGE);
            upload.write(&mut socket).unwrap();
            socket.write_all(COUNT.as_bytes()).unwrap();
            let (received, ended) = read_to_end(&mut socket);
            assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
            let (_, rest) = Response::parse(&received).unwrap();
            assert_eq!(rest, b"", "a second response");
        }
        assert_never_counted(server.addr);
    }
}

#[test]
fn request_hidden_in_a_refused_body_gets_no_response() {
    for server in both() {
        for framing in FRAMINGS {
            for length in [1000, 100_000, 3 << 20] {
                let mut upload = SendFirst::post("/early", framing, length);
                // A request begins at every offset where a careless server could start to parse.
                upload.prefix = COUNT.repeat(length as usize / COUNT.len()).into_bytes();
                upload.prefix.resize(length as usize, b'\n');
                let mut socket = connect(server.addr);
                upload.write(&mut socket).unwrap();
                assert_eq!(read_response(&mut socket).unwrap().status, 401);
                // Either nothing follows on the connection, or it ends properly.
                let _ = socket.shutdown(std::net::Shutdown::Write);
                let mut rest = Vec::new();
                let _ = socket.read_to_end(&mut rest);
                assert_eq!(rest, b"", "a second response");
            }
        }
        assert_never_counted(server.addr);
    }
}

/// Sends a request to `/count` and expects it to be the first one counted.
fn assert_never_counted(addr: SocketAddr) {
    let mut socket = connect(addr);
    socket.write_all(COUNT.as_bytes()).unwrap();
    assert_eq!(
        read_response(&mut socket).unwrap().body,
        "0",
        "a smuggled request was served"
    );
}

/// RFC 9112 §9.3: the server follows the client's wish to close.
#[test]
fn a_client_that_closes_is_closed() {
    let server = Server::combined(app());
    for line in ["Connection: close", "Connection: keep-alive, Close"] {
        let response = SendFirst::post("/early", Framing::ContentLength, 100_000)
            .header(line)
            .to(server.addr)
            .assert_delivered(401);
        assert_eq!(response.header("connection"), Some("close"));
    }
    let mut socket = connect(server.addr);
    let head = "POST /early HTTP/1.0\r\nContent-Length: 100000\r\n\r\n";
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(&vec![0; 100_000]).unwrap();
    let (received, ended) = read_to_end(&mut socket);
    assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
    assert_eq!(Response::parse(&received).unwrap().0.status, 401);
}

/// `h2c` upgrade requests may have bodies. The request alone makes no tunnel.
#[test]
fn a_post_that_asks_for_an_upgrade_is_like_any_other() {
    let server = Server::combined(app());
    let mut socket = connect(server.addr);
    for _ in 0..2 {
        let upload = SendFirst::post("/early", Framing::ContentLength, 100_000)
            .header("Connection: Upgrade, HTTP2-Settings")
            .header("Upgrade: h2c")
            .header("HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA");
        assert_eq!(exchange(&mut socket, &upload).status, 401);
    }
    SendFirst::post("/early", Framing::ContentLength, LARGE)
        .header("Connection: Upgrade")
        .header("Upgrade: h2c")
        .to(server.addr)
        .assert_delivered(401);
}

/// hyper may read again after a drain has given up, and may then find the end of the body. In that
/// case the connection is kept, and no byte on it may be discarded.
#[test]
fn a_connection_that_outlives_its_drain_is_whole() {
    const ECHO: u64 = 16 << 20;
    let app = app()
        .route("/echo", post(|body: Body| async { body }))
        .layer(axum::extract::DefaultBodyLimit::disable());
    for rest in [1000, (1 << 20) + 1, (1 << 20) + 5000, 3 << 20] {
        let server = Server::combined(app.clone());
        let mut socket = connect(server.addr);
        let head = SendFirst::post("/first", Framing::Chunked, 0).head();
        socket.write_all(head.as_bytes()).unwrap();
        write_chunk(&mut socket, b"the handler reads this").unwrap();
        assert_eq!(read_response(&mut socket).unwrap().status, 200);
        // The remaining body is sent in small chunks, so that only the last one exceeds the drain
        // limit.
        let chunk = [0; 2000];
        let mut body = Vec::new();
        let mut left = rest;
        while left > 0 {
            let part = left.min(chunk.len());
            write_chunk(&mut body, &chunk[..part]).unwrap();
            left -= part;
        }
        body.extend_from_slice(b"0\r\n\r\n");
        // The server may close, because the body exceeds the drain limit.
        let Ok(()) = socket.write_all(&body) else {
            continue;
        };

        let mut writer = socket.try_clone().unwrap();
        let writes = std::thread::spawn(move || {
            SendFirst::post("/echo", Framing::ContentLength, ECHO)
                .header("Connection: close")
                .write(&mut writer)
        });
        let (received, ended) = read_to_end(&mut socket);
        let wrote = writes.join().unwrap();
        // The second request is served whole or not at all.
        if !received.is_empty() {
            wrote.expect("a request that is served is read");
            assert!(matches!(ended, Ended::Cleanly), "{rest}: {ended:?}");
            let (response, rest) = Response::parse(&received).expect("a whole response");
            assert_eq!((response.content.len() as u64, rest.len()), (ECHO, 0));
        }
    }
}
