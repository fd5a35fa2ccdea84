//! The states of a client when it leaves, and the ways to leave.

use std::{
    future::poll_fn,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use axum::http::Request;
use bytes::Bytes;
use h2::{SendStream, client::handshake};
use socket2::SockRef;
use testkit::{
    LARGE, MIB, SendFirst,
    client::{Framing, PATIENCE, connect, read_head, read_response},
};
use tokio::runtime::{Builder, Runtime};

/// The limit of both servers.
pub(crate) const LIMIT: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Within the request head.
    Head,
    /// Within a body below the limit.
    Body,
    /// Within a body above the limit, whose refusal the client has not read.
    Refused,
    /// Within a small remaining body, on a connection that will be kept.
    Drain,
    /// The client has read the refusal, and the server waits for the client to close.
    Linger,
    /// Within a response longer than the buffers. The client has read only the head.
    Stalled,
    /// Within a refused HTTP/2 stream.
    Stream,
}

use State::{Body, Drain, Head, Linger, Refused, Stalled, Stream};

impl State {
    pub(crate) const ALL: [Self; 7] = [Head, Body, Refused, Drain, Linger, Stalled, Stream];

    /// The states that the form supports. It has no long response.
    pub(crate) const OF_THE_FORM: [Self; 6] = [Head, Body, Refused, Drain, Linger, Stream];

    pub(crate) fn lingers(self) -> bool {
        matches!(self, Refused | Linger)
    }

    pub(crate) fn is_drained(self) -> bool {
        matches!(self, Drain | Stream)
    }

    pub(crate) fn enter(self, addr: SocketAddr) -> Client {
        let upload = |path, length, sent: u64| {
            let mut socket = connect(addr);
            let upload = SendFirst::post(path, Framing::ContentLength, length);
            socket.write_all(upload.head().as_bytes()).unwrap();
            socket.write_all(&vec![0; sent as usize]).unwrap();
            socket
        };
        let socket = match self {
            Head => {
                let mut socket = connect(addr);
                socket.write_all(b"POST /raw HTTP/1.1\r\nHost: te").unwrap();
                socket
            }
            Body => upload("/raw", LIMIT - 1, 1000),
            Refused => {
                let mut socket = upload("/raw", LARGE, 0);
                // With few file descriptors, the connection may be evicted before the client sends.
                let _ = socket.write_all(&vec![0; MIB as usize]);
                socket
            }
            Drain => {
                let mut socket = upload("/raw", LIMIT + 1000, 100);
                let response = read_response(&mut socket).unwrap();
                assert_eq!(
                    (response.status, response.header("connection")),
                    (413, None)
                );
                socket
            }
            Linger => {
                let mut socket = upload("/raw", LARGE, 1000);
                assert_eq!(read_response(&mut socket).unwrap().status, 413);
                socket
            }
            Stalled => {
                let mut socket = upload("/long", LARGE, 1000);
                assert!(read_head(&mut socket).starts_with("HTTP/1.1 401 "));
                socket
            }
            Stream => return Client::of_a_stream(addr),
        };
        Client {
            socket,
            stream: None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Exit {
    Reset,
    /// The client closes with unread data, so its kernel resets.
    Close,
    /// The client closes its sending side and reads the remaining data.
    HalfClose,
}

impl Exit {
    pub(crate) const ALL: [Self; 3] = [Self::Reset, Self::Close, Self::HalfClose];
}

/// A client in one of the states.
pub(crate) struct Client {
    socket: TcpStream,
    /// The runtime that drives an HTTP/2 client, and its upload.
    stream: Option<(Runtime, SendStream<Bytes>)>,
}

impl Client {
    fn of_a_stream(addr: SocketAddr) -> Self {
        let socket = connect(addr);
        let driven = socket.try_clone().unwrap();
        driven.set_nonblocking(true).unwrap();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let stream = runtime.block_on(async {
            let driven = tokio::net::TcpStream::from_std(driven).unwrap();
            let (client, connection) = handshake(driven).await.unwrap();
            tokio::spawn(async move {
                // The test decides how the connection ends.
                let _ = connection.await;
            });
            let mut client = client.ready().await.unwrap();
            let request = Request::post("http://test/raw")
                .header("content-length", LARGE)
                .body(())
                .unwrap();
            let (response, mut stream) = client.send_request(request, false).unwrap();
            assert_eq!(response.await.unwrap().status(), 413);
            stream.reserve_capacity(1000);
            poll_fn(|cx| stream.poll_capacity(cx))
                .await
                .unwrap()
                .unwrap();
            stream
                .send_data(Bytes::from_static(&[0; 100]), false)
                .unwrap();
            stream
        });
        Self {
            socket,
            stream: Some((runtime, stream)),
        }
    }

    pub(crate) fn leave(mut self, exit: Exit) {
        match exit {
            Exit::Reset => {
                let socket = SockRef::from(&self.socket);
                socket.set_linger(Some(Duration::ZERO)).unwrap();
            }
            Exit::Close => {}
            Exit::HalfClose => {
                // The server may have closed or reset the connection first.
                let _ = self.socket.shutdown(Shutdown::Write);
                if self.stream.is_none() {
                    let _ = self.socket.read_to_end(&mut Vec::new());
                }
            }
        }
        if let Some((runtime, _)) = self.stream.take() {
            // The runtime holds resources, so the last file descriptor is dropped with `self`.
            runtime.shutdown_timeout(PATIENCE);
        }
    }
}
