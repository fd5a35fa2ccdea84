//! The events of drains and lingers name the client.
#![cfg(feature = "axum")]

use std::{
    net::{SocketAddr, TcpStream},
    sync::{Mutex, mpsc},
};

use axum::http::StatusCode;
use testkit::{
    LARGE, SendFirst,
    client::{Framing, PATIENCE, connect, read_response},
    h2::{over, upload},
};
use tower_bodyguard::{BodyGuardLayer, Event, Linger, LingerConfig, Observer};

use crate::server::{Server, counting};

const LIMIT: u64 = 1000;

type Named = (&'static str, Option<SocketAddr>);

/// Returns a server that refuses, and the events that it reports.
fn server() -> (Server, mpsc::Receiver<Named>) {
    let (events, reported) = mpsc::channel();
    let events = Mutex::new(events);
    let observer = Observer::new(move |event| {
        let named = match event {
            Event::Drained(drained) => ("drained", drained.peer),
            Event::StreamLingered(lingered) => ("stream lingered", lingered.peer),
            Event::Lingered(lingered) => ("lingered", lingered.peer),
            _ => return,
        };
        let _ = events.lock().unwrap().send(named);
    });
    let linger = Linger::new(LingerConfig::new().observer(observer));
    let server = Server::run_with(linger, |listener, linger| async move {
        tower_bodyguard::axum::serve(listener, counting().layer(BodyGuardLayer::new(LIMIT)))
            .with_linger(&linger)
            .await
            .unwrap();
    });
    (server, reported)
}

fn upload_to(socket: &mut TcpStream, length: u64) {
    SendFirst::post("/", Framing::ContentLength, length)
        .write(socket)
        .unwrap();
    assert_eq!(read_response(socket).unwrap().status, 413);
}

#[test]
fn drain_and_linger_name_the_address_of_the_client() {
    let (server, reported) = server();
    let mut socket = connect(server.addr);
    let addr = socket.local_addr().ok();
    upload_to(&mut socket, LIMIT * 20);
    assert_eq!(reported.recv_timeout(PATIENCE), Ok(("drained", addr)));
    upload_to(&mut socket, LARGE);
    drop(socket);
    assert_eq!(reported.recv_timeout(PATIENCE), Ok(("lingered", addr)));
}

#[tokio::test]
async fn linger_of_a_stream_names_the_address_of_the_client() {
    let (server, reported) = tokio::task::spawn_blocking(server).await.unwrap();
    let socket = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let addr = socket.local_addr().ok();
    let client = over(socket).await;
    let seen = upload(&client, "/", LIMIT * 20).await;
    assert_eq!(seen.status, StatusCode::PAYLOAD_TOO_LARGE);
    let event = tokio::task::spawn_blocking(move || reported.recv_timeout(PATIENCE));
    assert_eq!(event.await.unwrap(), Ok(("stream lingered", addr)));
}

/// A wrapper without delivery asks the socket.
#[tokio::test]
async fn linger_of_a_wrapper_alone_names_the_address_of_the_client() {
    let (events, reported) = mpsc::channel();
    let events = Mutex::new(events);
    let observer = Observer::new(move |event| {
        if let Event::Lingered(lingered) = event {
            let _ = events.lock().unwrap().send(lingered.peer);
        }
    });
    let linger = Linger::new(LingerConfig::new().observer(observer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
    let client = client.await.unwrap();
    let (socket, addr) = listener.accept().await.unwrap();
    let mut server = tower_bodyguard::LingerIo::new(socket, &linger);
    tokio::io::AsyncWriteExt::write_all(&mut server, b"response")
        .await
        .unwrap();
    drop(server);
    drop(client);
    let event = tokio::task::spawn_blocking(move || reported.recv_timeout(PATIENCE));
    assert_eq!(event.await.unwrap(), Ok(Some(addr)));
}
