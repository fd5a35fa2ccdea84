//! Servers that are broken in one way each. In all other ways they are good.

use std::{
    io::{self, Read, Write},
    mem,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use h2::{Reason, server::handshake};
use http::Response;
use socket2::SockRef;
use testkit::client::{PATIENCE, read_head};
use tokio::runtime;

const REFUSAL: &[u8] = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
const CLOSING: &[u8] =
    b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const ACCEPTED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A connection whose request head has been read.
pub(crate) struct Request {
    socket: TcpStream,
    /// The length of the body.
    length: u64,
}

impl Request {
    fn read(mut socket: TcpStream) -> Option<Self> {
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        // The probe connects once without a request.
        socket.peek(&mut [0]).ok().filter(|length| *length > 0)?;
        let head = read_head(&mut socket).to_ascii_lowercase();
        let length = head.split_once("content-length: ").and_then(|(_, rest)| {
            let (length, _) = rest.split_once("\r\n")?;
            length.parse().ok()
        });
        Some(Self {
            socket,
            length: length.unwrap_or(0),
        })
    }

    fn send(&mut self, response: &[u8]) {
        // The client may have gone.
        let _ = self.socket.write_all(response);
    }

    fn read_body(&mut self) {
        let mut body = (&self.socket).take(self.length);
        let _ = io::copy(&mut body, &mut io::sink());
    }

    /// Half-closes, discards, and closes.
    fn linger(self) {
        let _ = self.socket.shutdown(Shutdown::Write);
        let _ = io::copy(&mut &self.socket, &mut io::sink());
    }

    fn reset(self) {
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }
}

/// Accepts connections, one after the other. Returns the address.
fn serve(handle: impl Fn(Request) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            if let Some(request) = Request::read(socket) {
                handle(request);
            }
        }
    });
    addr
}

pub(crate) fn refuses() -> SocketAddr {
    serve(|mut request| {
        request.send(CLOSING);
        request.linger();
    })
}

pub(crate) fn resets_without_a_response() -> SocketAddr {
    serve(Request::reset)
}

pub(crate) fn cuts_its_response() -> SocketAddr {
    serve(|mut request| {
        request.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\nshort");
        request.linger();
    })
}

pub(crate) fn closes_with_unread_data() -> SocketAddr {
    serve(|mut request| {
        // Without unread data, a close would send no reset.
        let _ = request.socket.peek(&mut [0]);
        request.send(CLOSING);
    })
}

pub(crate) fn neither_reads_nor_responds() -> SocketAddr {
    serve(|request| {
        // Open until the test process ends.
        mem::forget(request);
    })
}

pub(crate) fn parses_the_body_as_a_request() -> SocketAddr {
    serve(|mut request| {
        request.send(REFUSAL);
        request.send(REFUSAL);
        request.linger();
    })
}

pub(crate) fn responds_once_too_often() -> SocketAddr {
    serve(|mut request| {
        request.send(&REFUSAL.repeat(3));
        request.linger();
    })
}

pub(crate) fn serves_a_request_behind_close() -> SocketAddr {
    serve(|mut request| {
        request.send(CLOSING);
        request.read_body();
        let _ = read_head(&mut request.socket);
        request.send(CLOSING);
        request.linger();
    })
}

/// Accepts one upload and no connection after it.
pub(crate) fn stops_accepting() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut sockets = listener.incoming().map_while(Result::ok);
        let mut request = sockets.find_map(Request::read).unwrap();
        // Before the response, which makes the client reset and connect again.
        drop(listener);
        request.send(CLOSING);
        request.linger();
    });
    addr
}

pub(crate) fn invites_a_body_and_refuses_it() -> SocketAddr {
    serve(|mut request| {
        request.send(b"HTTP/1.1 100 Continue\r\n\r\n");
        request.send(CLOSING);
        request.linger();
    })
}

pub(crate) fn closes_silently() -> SocketAddr {
    serve(|mut request| {
        request.send(REFUSAL);
        request.read_body();
        request.linger();
    })
}

pub(crate) fn reads_everything_first() -> SocketAddr {
    serve(|mut request| {
        request.read_body();
        request.send(ACCEPTED);
        request.linger();
    })
}

/// Responds to each stream at once, and resets it with a code.
pub(crate) fn resets_streams(reason: Reason) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(reset_streams(socket, reason));
            }
        });
    });
    addr
}

async fn reset_streams(socket: tokio::net::TcpStream, reason: Reason) {
    // The probe's first connections have no streams.
    let Ok(mut connection) = handshake(socket).await else {
        return;
    };
    while let Some(Ok((_body, mut respond))) = connection.accept().await {
        let response = Response::builder().status(413).body(()).unwrap();
        match reason {
            // Dropping the body of an ended stream resets it so.
            Reason::NO_ERROR => {
                respond.send_response(response, true).unwrap();
            }
            reason => respond.send_reset(reason),
        }
    }
}
