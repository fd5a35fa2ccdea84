//! G7: all reading that only discards is limited. Unit tests beside the code check the limits under
//! paused time. Here the limits end real connections.
#![cfg(feature = "axum")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use axum::{Router, http::StatusCode, routing::post};
use testkit::{
    LARGE, SendFirst,
    client::{Framing, PATIENCE, connect, read_response},
};
use tower_bodyguard::{Counters, Drain, Linger, LingerConfig, StopReason};

use crate::server::Server;

fn app() -> Router {
    Router::new().route("/", post(|| async { StatusCode::UNAUTHORIZED }))
}

fn with(linger: Linger) -> Server {
    Server::run_with(linger, |listener, linger| async move {
        tower_bodyguard::axum::serve(listener, app())
            .with_linger(&linger)
            .await
            .unwrap();
    })
}

fn refused(server: &Server, length: u64) -> TcpStream {
    let mut socket = connect(server.addr);
    let upload = SendFirst::post("/", Framing::ContentLength, length);
    socket.write_all(upload.head().as_bytes()).unwrap();
    assert_eq!(read_response(&mut socket).unwrap().status, 401);
    socket
}

/// Waits until this many lingering connections were cut. Only the counters show it.
fn until_cut(server: &Server, cut: u64) {
    let start = Instant::now();
    while server.linger.stats().cut < cut {
        assert!(start.elapsed() < PATIENCE, "{:?}", server.linger);
        thread::yield_now();
    }
}

#[test]
fn a_silent_client_is_left() {
    let hours = Duration::from_secs(10_000);
    let server = with(Linger::new(
        LingerConfig::new()
            .idle_timeout(Duration::from_millis(100))
            .timeout(hours),
    ));
    let mut socket = refused(&server, LARGE);
    assert_eq!(
        socket.read(&mut [0]).unwrap(),
        0,
        "the FIN comes immediately"
    );
    until_cut(&server, 1);
}

#[test]
fn client_that_sends_endlessly_is_cut_at_the_total() {
    let bounded = LingerConfig::new()
        .timeout(Duration::from_millis(300))
        // The rate does not extend the timeout.
        .extended_timeout(0, None);
    let server = with(Linger::new(bounded));
    let mut socket = refused(&server, 1 << 60);
    while socket.write_all(&[0; 64 * 1024]).is_ok() {}
    until_cut(&server, 1);
    assert!(server.linger.stats().discarded_bytes > 0);
}

#[test]
fn a_flood_is_cut_at_the_byte_bound() {
    let server = with(Linger::new(LingerConfig::new().max_bytes(8 << 20)));
    let mut socket = refused(&server, 1 << 60);
    while socket.write_all(&[0; 64 * 1024]).is_ok() {}
    until_cut(&server, 1);
    let discarded = server.linger.stats().discarded_bytes;
    // The overshoot is one read at most.
    assert!((8 << 20..9 << 20).contains(&discarded), "{discarded}");
}

/// A drain that exceeds its timeout closes the connection.
#[test]
fn a_drain_that_stalls_ends() {
    let drain = Drain::new().timeout(Duration::from_millis(100));
    let server = with(Linger::new(LingerConfig::new().drain(drain)));
    let mut socket = refused(&server, 100_000);
    assert_eq!(socket.read(&mut [0]).unwrap(), 0);
}

#[test]
fn drain_beyond_max_connections_evicts_another() {
    let counters = Counters::default();
    let drain = Drain::new().max_connections(2).timeout(PATIENCE);
    let server = with(Linger::new(
        LingerConfig::new()
            .drain(drain)
            .observer(counters.observer()),
    ));
    let mut sockets = Vec::new();
    for count in 1..=3 {
        sockets.push(refused(&server, 100_000));
        while server.linger.stats().reading < count.min(2) {
            thread::yield_now();
        }
    }
    // hyper closes the first connection.
    assert_eq!(sockets[0].read(&mut [0]).unwrap(), 0);
    for socket in &mut sockets[1..] {
        socket.write_all(&[0; 100_000]).unwrap();
    }
    let drains = || counters.snapshot().drains;
    while drains().with_reason(StopReason::Completed) < 2 {
        thread::yield_now();
    }
    assert_eq!(drains().with_reason(StopReason::Evicted), 1);
}

#[test]
fn drain_without_slots_is_evicted_at_once() {
    let counters = Counters::default();
    let drain = Drain::new().max_connections(0).timeout(PATIENCE);
    let server = with(Linger::new(
        LingerConfig::new()
            .drain(drain)
            .observer(counters.observer()),
    ));
    let mut socket = refused(&server, 100_000);
    assert_eq!(socket.read(&mut [0]).unwrap(), 0);
    assert_eq!(
        counters.snapshot().drains.with_reason(StopReason::Evicted),
        1
    );
}

/// Chunked coding declares no length, so the drain is limited by the bytes that arrive.
#[test]
fn a_drain_without_an_end_ends() {
    use axum::body::Body;
    use futures_util::StreamExt;

    let first = |body: Body| async { drop(body.into_data_stream().next().await) };
    let app = Router::new().route("/", post(first));
    let server = Server::combined(app);
    SendFirst::post("/", Framing::Chunked, LARGE)
        .to(server.addr)
        .assert_delivered(200);
}

/// The response is blocked and the client keeps sending. A timeout ends that, too.
#[test]
fn discarding_beside_a_stalled_response_ends() {
    let page = || async { (StatusCode::FORBIDDEN, "n".repeat(32 << 20)) };
    let config = LingerConfig::new().stall_timeout(Duration::from_millis(300));
    let linger = Linger::new(config);
    let server = Server::run_with(linger, move |listener, linger| async move {
        let app = Router::new().route("/", post(page));
        tower_bodyguard::axum::serve(listener, app)
            .with_linger(&linger)
            .await
            .unwrap();
    });
    let mut socket = TcpStream::connect(server.addr).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    let upload = SendFirst::post("/", Framing::ContentLength, 1 << 60);
    socket.write_all(upload.head().as_bytes()).unwrap();
    let error = loop {
        if let Err(error) = socket.write_all(&[0; 64 * 1024]) {
            break error;
        }
    };
    assert_ne!(
        error.kind(),
        std::io::ErrorKind::WouldBlock,
        "discarding continued"
    );
    // No second linger follows.
    until_cut(&server, 1);
    let stats = server.linger.stats();
    assert_eq!((stats.started, stats.lingering()), (1, 0));
    assert!(stats.discarded_bytes > 0);
}

/// Without `Connection: close`, the drain reads beyond its limits to get the response out, but not
/// permanently. A client that then reads gets the whole response.
#[test]
fn a_long_response_behind_a_drain_gets_out() {
    use axum::body::Body;
    use futures_util::StreamExt;

    let page = |body: Body| async {
        drop(body.into_data_stream().next().await);
        "n".repeat(4 << 20)
    };
    let server = Server::combined(Router::new().route("/", post(page)));
    let mut socket = connect(server.addr);
    let upload = SendFirst::post("/", Framing::Chunked, LARGE);
    upload.write(&mut socket).expect("no write fails");
    let response = read_response(&mut socket).unwrap();
    assert_eq!((response.status, response.content.len()), (200, 4 << 20));
}
