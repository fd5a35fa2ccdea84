//! G10: a shutdown waits for what is read on, and no longer than it is told to.
#![cfg(feature = "axum")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::post};
use support::{
    MIB,
    client::{Ended, Framing, PATIENCE, SendFirst, connect, read_to_end},
    server::Server,
};
use tokio::sync::oneshot;
use tower_bodyguard::{Drain, Linger, LingerConfig, linger::Shutdown};

/// The bound of a shutdown that is to be cut short.
const SOON: Duration = Duration::from_millis(200);

struct Stopping {
    server: Server,
    signal: oneshot::Sender<()>,
    /// That the server itself has ended.
    served: Receiver<()>,
    ended: Receiver<Shutdown>,
}

/// A server that waits for a signal, and then shuts down within the bound.
fn stopping(linger: Linger, bound: Duration) -> Stopping {
    let app = Router::new().route("/", post(|| async { StatusCode::UNAUTHORIZED }));
    let (signal, stop) = oneshot::channel::<()>();
    let (tell_served, served) = mpsc::channel();
    let (tell_ended, ended) = mpsc::channel();
    let server = Server::run_with(linger, |listener, linger| async move {
        linger
            .serve(listener, app)
            .with_graceful_shutdown(linger.on(stop))
            .await
            .unwrap();
        tell_served.send(()).unwrap();
        tell_ended.send(linger.shutdown(bound).await).unwrap();
    });
    Stopping {
        server,
        signal,
        served,
        ended,
    }
}

const HALF: usize = 8 * MIB as usize;

/// A refused upload in the middle of its sending; the server has let go of it.
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
    let stopping = stopping(Linger::default(), PATIENCE);
    let mut clients = refused(&stopping.server, 10);
    stopping.signal.send(()).unwrap();
    stopping.served.recv_timeout(PATIENCE).unwrap();
    for socket in &mut clients {
        socket.write_all(&vec![0; HALF]).unwrap();
        let (answer, ended) = read_to_end(socket);
        assert!(answer.starts_with(b"HTTP/1.1 401 "), "{answer:?}");
        assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
    }
    drop(clients);
    let ended = stopping.ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!((ended.delivered, ended.cut), (10, 0));
}

#[test]
fn those_that_do_not_are_cut_at_the_bound() {
    let stopping = stopping(Linger::default(), SOON);
    let mut clients = refused(&stopping.server, 3);
    stopping.signal.send(()).unwrap();
    let ended = stopping.ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!((ended.delivered, ended.cut), (0, 3));
    assert_eq!(stopping.server.linger.stats().lingering(), 0);
    let late = clients[0].write_all(&vec![0; HALF]);
    assert!(late.is_err() || matches!(read_to_end(&mut clients[0]).1, Ended::Badly(_)));
}

/// axum waits for its connections without a bound, and a drain holds one up.
#[test]
fn a_drain_ends_when_the_grace_is_over() {
    let drain = Drain::new().timeout(PATIENCE * 2);
    let linger = Linger::new(
        LingerConfig::new()
            .drain(drain)
            .shutdown_drain_timeout(SOON),
    );
    let stopping = stopping(linger, PATIENCE);
    let mut socket = connect(stopping.server.addr);
    let upload = SendFirst::post("/", Framing::ContentLength, 1000);
    socket.write_all(upload.head().as_bytes()).unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    stopping.signal.send(()).unwrap();
    stopping.served.recv_timeout(PATIENCE).unwrap();
    // What was refused in the drain's time lingers like any other.
    let (_, ended) = read_to_end(&mut socket);
    assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
    drop(socket);
    let ended = stopping.ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!((ended.delivered, ended.cut), (1, 0));
}

/// Each server has a child of the handle: the end of one leaves the other's drains and lingering
/// connections alone.
#[test]
fn shutdown_of_child_leaves_its_siblings_alone() {
    let drain = Drain::new().timeout(PATIENCE * 2);
    let linger = Linger::new(
        LingerConfig::new()
            .drain(drain)
            .shutdown_drain_timeout(Duration::ZERO),
    );
    let [stopped, other] = [(); 2].map(|()| stopping(linger.child(), SOON));
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

    stopped.signal.send(()).unwrap();
    let ended = stopped.ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!((ended.delivered, ended.cut), (0, 2));
    assert_eq!((linger.stats().started, linger.stats().lingering()), (3, 1));
    let stats = other.server.linger.stats();
    assert_eq!((stats.started, stats.lingering(), stats.reading), (1, 1, 1));

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
    let stopping = stopping(Linger::default(), PATIENCE * 2);
    stopping.signal.send(()).unwrap();
    let ended = stopping.ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!(ended, Shutdown::default());
}
