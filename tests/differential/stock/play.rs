//! A script, played to a server, and what its client saw.

use std::{net::SocketAddr, time::Duration};

use axum::http::Request;
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::{TcpSocket, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};

use super::script::{Expect, Reads, Script, Streams, Then};
use crate::support::{client::Response, h2::over};

/// A server that is silent for so long has nothing more to say: some scripts wait for
/// nothing, and the handlers respond within milliseconds.
const SILENCE: Duration = Duration::from_millis(500);

/// How long the client looks for the end of the connection after the last response.
const END: Duration = Duration::from_millis(5);

/// How long the streams of a connection may take. Long responses share its window, and take
/// seconds on a loaded machine.
const STREAMS: Duration = Duration::from_secs(60);

const NEXT: &[u8] = b"POST /all HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello";

/// The status of each whole response, and the length of its body.
pub(crate) type Responses = Vec<Option<(u16, usize)>>;

#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) responses: Responses,
    /// A write failed while the upload was sent.
    pub(crate) write_failed: bool,
    pub(crate) was_reset: bool,
}

/// Connects with a small receive buffer, so that a long response needs a reader.
pub(crate) async fn connect(addr: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let socket = socket.connect(addr).await.expect("the server listens");
    socket.set_nodelay(true).unwrap();
    socket
}

/// Plays the script over a connection.
pub(crate) async fn play<T: AsyncRead + AsyncWrite>(script: &Script, socket: T) -> Seen {
    let (reader, mut writer) = tokio::io::split(socket);
    let (heard, mut hears) = watch::channel(Heard::Nothing);
    let mut client = Client {
        reader,
        received: Vec::new(),
        responses: Vec::new(),
        end: None,
        heard,
    };
    let wanted = if script.then == Then::Pipelined { 2 } else { 1 };
    let writing = write(script, &mut writer, &mut hears);
    let concurrently = script.reads != Reads::AfterWriting || script.expect == Expect::Patient;
    let write_failed = if concurrently {
        tokio::join!(writing, client.read(wanted, script.reads)).0
    } else {
        // Both sides may wait for the other to read: the client then gives up.
        let written = timeout(SILENCE, writing).await.unwrap_or(false);
        client.read(wanted, script.reads).await;
        written
    };
    if script.then == Then::Next && client.responses.len() == 1 && client.end.is_none() {
        let next = async {
            let _ = writer.write_all(NEXT).await;
            let _ = writer.flush().await;
        };
        // The server may have closed, or may wait for the rest of a body that was not sent.
        let _ = timeout(SILENCE, next).await;
        client.read(2, script.reads).await;
    }
    client.look_for_the_end().await;
    Seen {
        responses: client.responses.into_iter().map(Some).collect(),
        write_failed,
        was_reset: client.end == Some(false),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    Continue,
    Final,
}

/// Returns whether a write failed.
async fn write<T: AsyncRead + AsyncWrite>(
    script: &Script,
    writer: &mut WriteHalf<T>,
    hears: &mut watch::Receiver<Heard>,
) -> bool {
    let mut bytes = script.head();
    if script.expect == Expect::Patient {
        if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
            return true;
        }
        let heard = hears.wait_for(|heard| *heard != Heard::Nothing);
        let heard = timeout(SILENCE, heard).await;
        if !matches!(heard, Ok(Ok(heard)) if *heard == Heard::Continue) {
            return false;
        }
        bytes.clear();
    }
    bytes.extend(script.body());
    if script.then == Then::Pipelined {
        bytes.extend_from_slice(NEXT);
    }
    let (length, pause) = script.writes.unwrap_or((bytes.len(), 0));
    for part in bytes.chunks(length.max(1)) {
        if pause > 0 {
            sleep(Duration::from_millis(pause)).await;
        }
        let written = async {
            writer.write_all(part).await?;
            writer.flush().await
        };
        match timeout(SILENCE * 4, written).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return true,
            // The server neither reads nor closes.
            Err(_) => return false,
        }
    }
    false
}

struct Client<T> {
    reader: ReadHalf<T>,
    received: Vec<u8>,
    responses: Vec<(u16, usize)>,
    /// Whether the server's end was clean.
    end: Option<bool>,
    heard: watch::Sender<Heard>,
}

impl<T: AsyncRead + AsyncWrite> Client<T> {
    /// Reads until so many responses are whole, the connection ends or the server is
    /// silent.
    async fn read(&mut self, wanted: usize, reads: Reads) {
        let length = match reads {
            Reads::Steadily(length) => length,
            Reads::WhileWriting | Reads::AfterWriting => 256 * 1024,
        };
        let mut buffer = vec![0; length];
        while self.end.is_none() && self.responses.len() < wanted {
            if !self.read_once(&mut buffer, SILENCE).await {
                return;
            }
            if matches!(reads, Reads::Steadily(_)) {
                sleep(Duration::from_millis(1)).await;
            }
        }
    }

    async fn look_for_the_end(&mut self) {
        let mut buffer = vec![0; 4096];
        while self.end.is_none() && self.read_once(&mut buffer, END).await {}
    }

    /// Returns `false` after a silence.
    async fn read_once(&mut self, buffer: &mut [u8], silence: Duration) -> bool {
        match timeout(silence, self.reader.read(buffer)).await {
            Err(_) => return false,
            Ok(Err(_)) => self.end = Some(false),
            Ok(Ok(0)) => self.end = Some(true),
            Ok(Ok(read)) => {
                self.received.extend_from_slice(&buffer[..read]);
                self.take_responses();
            }
        }
        true
    }

    fn take_responses(&mut self) {
        while let Some((response, rest)) = Response::parse(&self.received) {
            let rest = rest.to_vec();
            if response.status >= 200 {
                let length = response.content.len();
                self.responses.push((response.status, length));
                self.heard.send_replace(Heard::Final);
            } else {
                self.heard.send_replace(Heard::Continue);
            }
            self.received = rest;
        }
    }
}

/// Plays the streams at the same time over one HTTP/2 connection.
pub(crate) async fn play_streams(streams: &Streams, addr: SocketAddr) -> Seen {
    let socket = TcpStream::connect(addr).await;
    let client = over(socket.expect("the server listens")).await;
    let exchanges = streams.iter().map(|(path, length)| {
        let client = client.clone();
        async move {
            let exchange = exchange(client, path, *length);
            timeout(STREAMS, exchange).await.ok()?.ok()
        }
    });
    let responses = join_all(exchanges).await;
    Seen {
        responses,
        write_failed: false,
        was_reset: false,
    }
}

/// Sends `length` bytes, as far as the server takes them, and reads meanwhile.
async fn exchange(
    client: crate::support::h2::Client,
    path: &str,
    length: usize,
) -> Result<(u16, usize), h2::Error> {
    let request = Request::post(format!("http://test{path}"));
    let request = request.body(()).expect("it is well-formed");
    let mut client = client.ready().await?;
    let (response, mut stream) = client.send_request(request, length == 0)?;
    let sending = async {
        let mut left = length;
        while left > 0 {
            stream.reserve_capacity(left.min(16 * 1024));
            let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
            // A reset ends the upload, but the response counts.
            let Some(Ok(room)) = room else { break };
            let room = room.min(left);
            left -= room;
            if stream
                .send_data(Bytes::from(vec![0; room]), left == 0)
                .is_err()
            {
                break;
            }
        }
        // Dropping the stream early would reset it, and the response with it.
        stream
    };
    let receiving = async {
        let (parts, mut body) = response.await?.into_parts();
        let mut sum = 0;
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            sum += data.len();
        }
        Ok((parts.status.as_u16(), sum))
    };
    let mut sending = std::pin::pin!(sending);
    let mut receiving = std::pin::pin!(receiving);
    tokio::select! {
        response = &mut receiving => response,
        _stream = &mut sending => receiving.await,
    }
}
