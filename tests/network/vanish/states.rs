//! How far a client has come when it leaves, and how it leaves.

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

/// Of both servers.
pub(crate) const LIMIT: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Within the request's head.
    Head,
    /// Within a body that is not too large.
    Body,
    /// Within one that is, whose refusal it has not read.
    Refused,
    /// Within the little that is left of one, on a connection to be kept.
    Drain,
    /// It has read the refusal, and the server waits for its end.
    Linger,
    /// Within an answer that is longer than the buffers, of which it has read the head.
    Stalled,
    /// Within a refused stream of HTTP/2.
    Stream,
}

use State::{Body, Drain, Head, Linger, Refused, Stalled, Stream};

impl State {
    pub(crate) const ALL: [Self; 7] = [Head, Body, Refused, Drain, Linger, Stalled, Stream];

    /// Those that the form can be brought to: it has no long answer.
    pub(crate) const OF_THE_FORM: [Self; 6] = [Head, Body, Refused, Drain, Linger, Stream];

    pub(crate) fn lingers(self) -> bool {
        matches!(self, Refused | Linger)
    }

    pub(crate) fn is_read_on(self) -> bool {
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
                // With few file descriptors, it may be evicted before it sends.
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
    /// With what it has not read, which makes the kernel reset.
    Close,
    /// It closes its sending side, and reads what there is.
    HalfClose,
}

impl Exit {
    pub(crate) const ALL: [Self; 3] = [Self::Reset, Self::Close, Self::HalfClose];
}

/// A client in the midst of it.
pub(crate) struct Client {
    socket: TcpStream,
    /// What drives it, over HTTP/2, and its upload.
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
                // It ends as the test has it end.
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
                // The server may have closed, or reset, by itself.
                let _ = self.socket.shutdown(Shutdown::Write);
                if self.stream.is_none() {
                    let _ = self.socket.read_to_end(&mut Vec::new());
                }
            }
        }
        if let Some((runtime, _)) = self.stream.take() {
            // With all that it holds, and so the last descriptor goes with `self`.
            runtime.shutdown_timeout(PATIENCE);
        }
    }
}
