//! G10: a shutdown waits for lingering connections and drains, but no longer than configured.
#![cfg(feature = "axum")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::post};
use testkit::{
    MIB,
    client::{Ended, Framing, PATIENCE, SendFirst, connect, read_to_end},
};
use tokio::sync::oneshot;
use tower_bodyguard::{Drain, Linger, LingerConfig};

use crate::server::Server;

/// The timeout of a shutdown that is cut short.
const SOON: Duration = Duration::from_millis(200);

struct Stopping {
    server: Server,
    signal: Option<oneshot::Sender<()>>,
    ended: Receiver<()>,
}

impl Stopping {
    fn stop(&mut self) {
        self.signal.take().unwrap().send(()).unwrap();
    }

    /// Returns how many lingering connections delivered their response, and how many were cut.
    fn outcome(&self) -> (u64, u64) {
        self.ended.recv_timeout(PATIENCE).unwrap();
        let stats = self.server.linger.stats();
        assert_eq!((stats.lingering(), stats.reading), (0, 0));
        (stats.delivered, stats.cut)
    }
}

/// Returns a server that shuts down on a signal.
fn stopping(linger: Linger) -> Stopping {
    let app = Router::new().route("/", post(|| async { StatusCode::UNAUTHORIZED }));
    let (signal, stop) = oneshot::channel::<()>();
    let (tell_ended, ended) = mpsc::channel();
    let server = Server::run_with(linger, |listener, linger| async move {
        tower_bodyguard::axum::serve(listener, app)
            .with_linger(&linger)
            .with_graceful_shutdown(async { stop.await.unwrap_or_default() })
            .await
            .unwrap();
        tell_ended.send(()).unwrap();
    });
    Stopping {
        server,
        signal: Some(signal),
        ended,
    }
}

const HALF: usize = 8 * MIB as usize;

/// Returns clients in the middle of refused uploads whose sockets hyper has already dropped.
fn refused(server: &Server, connections: u64) -> Vec<TcpStream> {
    let upload = SendFirst::post("/", Framing::ContentLength, 2 * HALF as u64);
    let sockets = (0..connections).map(|_| {
        let mut socket = connect(server.addr);
        socket.write_all(upload.head().as_bytes()).unwrap();
        socket.write_all(&vec![0; HALF]).unwrap();
        socket
    });
    let sockets = sockets.collect();
    while server.linger.stats().lingering() < connections {
        thread::yield_now();
    }
    sockets
}

#[test]
fn ten_refused_uploads_in_mid_sending_finish() {
    let mut stopping = stopping(Linger::new(LingerConfig::new().shutdown_timeout(PATIENCE)));
    let mut clients = refused(&stopping.server, 10);
    stopping.stop();
    for socket in &mut clients {
        socket.write_all(&vec![0; HALF]).unwrap();
        let (response, ended) = read_to_end(socket);
        assert!(response.starts_with(b"HTTP/1.1 401 "), "{response:?}");
        assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
    }
    drop(clients);
    assert_eq!(stopping.outcome(), (10, 0));
}

#[test]
fn those_that_do_not_are_cut_at_the_bound() {
    let mut stopping = stopping(Linger::new(LingerConfig::new().shutdown_timeout(SOON)));
    let mut clients = refused(&stopping.server, 3);
    stopping.stop();
    assert_eq!(stopping.outcome(), (0, 3));
    let late = clients[0].write_all(&vec![0; HALF]);
    assert!(late.is_err() || matches!(read_to_end(&mut clients[0]).1, Ended::Badly(_)));
}

/// axum waits for its connections without a timeout, and a drain delays them.
#[test]
fn a_drain_ends_when_the_grace_is_over() {
    let drain = Drain::new().timeout(PATIENCE * 2);
    let linger = Linger::new(
        LingerConfig::new()
            .drain(drain)
            .shutdown_timeout(Duration::from_secs(1)),
    );
    let mut stopping = stopping(linger);
    let mut socket = connect(stopping.server.addr);
    let upload = SendFirst::post("/", Framing::ContentLength, 1000);
    socket.write_all(upload.head().as_bytes()).unwrap();
    let mut response = [0; 12];
    socket.read_exact(&mut response).unwrap();
    assert_eq!(&response, b"HTTP/1.1 401");
    stopping.stop();
    // An upload refused within the drain timeout lingers like any other.
    let (_, ended) = read_to_end(&mut socket);
    assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
    drop(socket);
    assert_eq!(stopping.outcome(), (1, 0));
}

/// The end of one server leaves the drains and lingering connections of another server with the
/// same handle alone.
#[test]
fn shutdown_of_a_server_leaves_others_of_its_handle_alone() {
    let drain = Drain::new().timeout(PATIENCE * 2);
    let linger = Linger::new(
        LingerConfig::new()
            .drain(drain)
            .shutdown_timeout(Duration::ZERO),
    );
    let [mut stopped, other] = [(); 2].map(|()| stopping(linger.clone()));
    let upload = SendFirst::post("/", Framing::ContentLength, 1000);
    let mut drained = [&stopped, &other].map(|stopping| {
        let mut socket = connect(stopping.server.addr);
        socket.write_all(upload.head().as_bytes()).unwrap();
        let mut response = [0; 12];
        socket.read_exact(&mut response).unwrap();
        assert_eq!(&response, b"HTTP/1.1 401");
        socket
    });
    let mut lingering = [&stopped, &other].map(|stopping| refused(&stopping.server, 1).remove(0));

    stopped.stop();
    stopped.ended.recv_timeout(PATIENCE).unwrap();
    let stats = linger.stats();
    assert_eq!((stats.started, stats.cut), (3, 2));
    assert_eq!((stats.lingering(), stats.reading), (1, 1), "of the other");

    lingering[1].write_all(&vec![0; HALF]).unwrap();
    let (_, ended) = read_to_end(&mut lingering[1]);
    assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
    // The connection of the drain is kept.
    for half in [500, 500] {
        drained[1].write_all(&vec![0; half]).unwrap();
    }
    drained[1].write_all(upload.head().as_bytes()).unwrap();
    let mut responses = Vec::new();
    while !String::from_utf8_lossy(&responses).contains("HTTP/1.1 401") {
        let mut some = [0; 1024];
        let read = drained[1].read(&mut some).unwrap();
        assert_ne!(read, 0, "the connection is kept");
        responses.extend_from_slice(&some[..read]);
    }
}

#[test]
fn nothing_to_wait_for_is_over_at_once() {
    let mut stopping = stopping(Linger::new(
        LingerConfig::new().shutdown_timeout(PATIENCE * 2),
    ));
    stopping.stop();
    assert_eq!(stopping.outcome(), (0, 0));
}
