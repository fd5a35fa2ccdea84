//! A client that sees the frames of QUIC's streams, and writes those of HTTP/3 by hand.

use std::{
    future::Future,
    net::SocketAddr,
    pin::pin,
    task::{Context, Poll, Waker},
};

use quinn::{
    Connection, ReadToEndError, RecvStream, SendStream, TransportConfig, VarInt, WriteError,
};
use testkit::client::PATIENCE;
use tokio::time::timeout;

use crate::h3_client::endpoint;

/// More than ten times of what quinn buffers of a stream.
pub(crate) const LARGE: u64 = 16 << 20;

pub(crate) const H3_NO_ERROR: u32 = 0x100;
pub(crate) const H3_INTERNAL_ERROR: u32 = 0x102;
pub(crate) const H3_EXCESSIVE_LOAD: u32 = 0x107;
pub(crate) const H3_REQUEST_REJECTED: u32 = 0x10b;
pub(crate) const H3_REQUEST_CANCELLED: u32 = 0x10c;
pub(crate) const H3_MESSAGE_ERROR: u32 = 0x10e;

/// Fails instead of hanging.
#[track_caller]
pub(crate) fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        let done = timeout(PATIENCE, future).await;
        done.unwrap_or_else(|_| panic!("not in {PATIENCE:?}, at {caller}"))
    }
}

/// Returns the output of a future that is ready without waiting.
pub(crate) fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

pub(crate) async fn connect(addr: SocketAddr) -> Connection {
    connect_with(addr, TransportConfig::default()).await
}

/// Connects, and sends empty settings.
pub(crate) async fn connect_with(addr: SocketAddr, transport: TransportConfig) -> Connection {
    let connecting = endpoint(transport).connect(addr, "localhost").unwrap();
    let connection = soon(connecting).await.unwrap();
    let mut control = connection.open_uni().await.unwrap();
    control.write_all(&[0x00, 0x04, 0]).await.unwrap();
    // Its end would be an error of the connection. It ends with the test.
    std::mem::forget(control);
    connection
}

/// Waits until the server has acknowledged everything.
pub(crate) async fn received(connection: &Connection) {
    let mut ping = connection.open_uni().await.unwrap();
    // A stream of a reserved type (RFC 9114 §6.2.3).
    ping.write_all(&[0x21]).await.unwrap();
    ping.finish().unwrap();
    let _ = ping.stopped().await;
}

/// A request whose head is sent.
pub(crate) struct Request {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
}

impl Request {
    pub(crate) async fn begin(
        connection: &Connection,
        method: &str,
        path: &str,
        length: Option<u64>,
    ) -> Self {
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(&head(method, path, length)).await.unwrap();
        Self { send, recv }
    }

    /// Sends a request without a body.
    pub(crate) async fn begin_and_end(
        connection: &Connection,
        method: &str,
        length: Option<u64>,
    ) -> Self {
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(&head(method, "/", length)).await.unwrap();
        send.finish().unwrap();
        Self { send, recv }
    }

    /// Sends a POST with its body, at once.
    pub(crate) async fn begin_with(connection: &Connection, path: &str, body: &[u8]) -> Self {
        let (mut send, recv) = connection.open_bi().await.unwrap();
        let whole = [&head("POST", path, None)[..], body].concat();
        send.write_all(&whole).await.unwrap();
        send.finish().unwrap();
        Self { send, recv }
    }

    /// Sends `DATA` frames of 64 KiB until the server stops the stream. Returns its code, and how
    /// many frames were sent.
    pub(crate) async fn send_until_stopped(&mut self) -> (VarInt, usize) {
        let frame = data(&[b'x'; 65536]);
        for sent in 0.. {
            match soon(self.send.write_all(&frame)).await {
                Ok(()) => {}
                Err(WriteError::Stopped(code)) => return (code, sent),
                Err(error) => panic!("{error}"),
            }
        }
        unreachable!()
    }

    /// Sends a body of zeros, and the end.
    pub(crate) async fn send_body(&mut self, length: usize) -> Result<(), WriteError> {
        let mut left = length;
        while left > 0 {
            let part = left.min(65536);
            soon(self.send.write_all(&data(&vec![0; part]))).await?;
            left -= part;
        }
        self.send.finish().unwrap();
        Ok(())
    }

    pub(crate) async fn response(&mut self) -> Result<Response, ReadToEndError> {
        let bytes = soon(self.recv.read_to_end(1 << 30)).await?;
        Ok(Response::parse(&bytes))
    }

    /// Returns the response if all of it, with its end, has arrived by now.
    pub(crate) fn arrived(&mut self) -> Option<Response> {
        let bytes = now(self.recv.read_to_end(1 << 30))?.unwrap();
        Some(Response::parse(&bytes))
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn parse(mut bytes: &[u8]) -> Self {
        let (mut status, mut body) = (0, Vec::new());
        while !bytes.is_empty() {
            let (kind, after) = varint(bytes);
            let (length, after) = varint(after);
            let (payload, after) = after.split_at(usize::try_from(length).unwrap());
            bytes = after;
            match kind {
                0x00 => body.extend_from_slice(payload),
                0x01 if status == 0 => status = status_in(payload),
                _ => {}
            }
        }
        Self { status, body }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A `DATA` frame.
pub(crate) fn data(payload: &[u8]) -> Vec<u8> {
    frame(0x00, payload)
}

pub(crate) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap() | 0x8000_0000;
    [&[kind], &length.to_be_bytes()[..], payload].concat()
}

/// A `HEADERS` frame, in QPACK without Huffman codes (RFC 9204 §4.5).
fn head(method: &str, path: &str, length: Option<u64>) -> Vec<u8> {
    let method = match method {
        "GET" => 17,
        "HEAD" => 18,
        "POST" => 20,
        other => panic!("{other} is not in the table"),
    };
    // The scheme is `https`.
    let mut fields = vec![0, 0, 0xc0 | method, 0xc0 | 23];
    let mut named = |name: u8, value: &str| {
        fields.extend([0x50 | name, u8::try_from(value.len()).unwrap()]);
        fields.extend(value.as_bytes());
    };
    named(0, "localhost");
    named(1, path);
    if let Some(length) = length {
        named(4, &length.to_string());
    }
    frame(0x01, &fields)
}

/// A field section with one field that is in no table.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let [name_length, value_length] = [name, value].map(|text| u8::try_from(text.len()).unwrap());
    assert!(name_length < 7, "a longer length takes two bytes");
    [
        &[0, 0, 0x20 | name_length],
        name.as_bytes(),
        &[value_length],
        value.as_bytes(),
    ]
    .concat()
}

/// A `HEADERS` frame with a field of this length.
pub(crate) fn long_head(length: usize) -> Vec<u8> {
    // GET, `https`, `/`, and `:authority` (RFC 9204, appendix A).
    let mut fields = vec![0, 0, 0xd1, 0xd7, 0xc1, 0x50, 1, b'x', 0x21, b'a', 0x7f];
    // The length: an integer with a prefix of 7 bits (RFC 7541 §5.1).
    let mut left = length - 127;
    while left > 127 {
        fields.push(u8::try_from(left % 128).unwrap() | 128);
        left /= 128;
    }
    fields.push(u8::try_from(left).unwrap());
    fields.resize(fields.len() + length, b'x');
    frame(0x01, &fields)
}

fn varint(bytes: &[u8]) -> (u64, &[u8]) {
    let (integer, rest) = bytes.split_at(1 << (bytes[0] >> 6));
    let begin = u64::from(integer[0] & 0x3f);
    let value = integer[1..]
        .iter()
        .fold(begin, |value, byte| value << 8 | u64::from(*byte));
    (value, rest)
}

/// Returns the status in a field section, whose first field it is.
fn status_in(section: &[u8]) -> u16 {
    match section[2..] {
        [0xd9, ..] => 200,
        [0xdb, ..] => 404,
        // A literal value for the name with number 24.
        [0x5f, 9, length, ref rest @ ..] => {
            let value = &rest[..usize::from(length & 0x7f)];
            let is_huffman = length & 0x80 != 0;
            let digits = if is_huffman {
                digits(value)
            } else {
                String::from_utf8(value.to_vec()).unwrap()
            };
            digits.parse().unwrap()
        }
        // Indexed in two bytes: 63 and more.
        [0xff, index, ..] => match index {
            1 => 204,
            4 => 400,
            5 => 403,
            8 => 500,
            other => panic!("no status has the index {}", 63 + u32::from(other)),
        },
        ref other => panic!("no status in {other:02x?}"),
    }
}

/// Decodes three digits (RFC 7541, appendix B).
fn digits(huffman: &[u8]) -> String {
    let bits: String = huffman.iter().map(|byte| format!("{byte:08b}")).collect();
    let mut bits = bits.as_str();
    let mut digits = String::new();
    for _ in 0..3 {
        let short = u32::from_str_radix(&bits[..5], 2).unwrap();
        let (digit, length) = match short {
            0..=2 => (short, 5),
            _ => (
                u32::from_str_radix(&bits[..6], 2).unwrap() - 0b011001 + 3,
                6,
            ),
        };
        digits.push(char::from_digit(digit, 10).unwrap());
        bits = &bits[length..];
    }
    digits
}
