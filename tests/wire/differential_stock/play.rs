//! Plays a script to a server and records what the client saw.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use testkit::{
    client::Response,
    streams::{Delivered, Patience, Responses, SILENCE, number_in},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::{TcpSocket, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};

use super::script::{Body, Expect, Reads, Script, Then};

/// How long the client waits for the end of the connection after the last response.
const END: Duration = Duration::from_millis(5);

const NEXT: &[u8] = b"POST /all HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello";

#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) responses: Responses,
    /// A write failed while the upload was sent.
    pub(crate) write_failed: bool,
    pub(crate) was_reset: bool,
}

/// Connects with a small receive buffer, so that a long response needs a client that reads.
pub(crate) async fn connect(addr: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let socket = socket.connect(addr).await.expect("the server listens");
    socket.set_nodelay(true).unwrap();
    socket
}

/// Plays the script over a connection.
pub(crate) async fn play<T: AsyncRead + AsyncWrite>(
    script: &Script,
    socket: T,
    patience: &Patience,
) -> Seen {
    let (reader, mut writer) = tokio::io::split(socket);
    let (heard, mut hears) = watch::channel(Heard::Nothing);
    let mut client = Client {
        reader,
        received: Vec::new(),
        responses: Vec::new(),
        end: None,
        heard,
        rest_is_unsent: Arc::new(AtomicBool::new(script.body == Body::Waits)),
        patience,
        // The client may wait once before it sends the second half.
        silence: if script.body == Body::Waits {
            SILENCE * 2
        } else {
            SILENCE
        },
    };
    let rest_is_unsent = Arc::clone(&client.rest_is_unsent);
    let wanted = if script.then == Then::Pipelined { 2 } else { 1 };
    let writing = write(script, &mut writer, &mut hears, &rest_is_unsent, patience);
    let concurrently = script.reads != Reads::AfterWriting
        || script.expect == Expect::Patient
        || script.body == Body::Waits;
    let write_failed = if concurrently {
        tokio::join!(writing, client.read(wanted, script.reads)).0
    } else {
        // If each side waits for the other to read, the client gives up.
        let written = timeout(SILENCE, writing).await.unwrap_or(false);
        client.read(wanted, script.reads).await;
        written
    };
    if script.then == Then::Next && client.responses.len() == 1 && client.end.is_none() {
        let next = async {
            let _ = writer.write_all(NEXT).await;
            let _ = writer.flush().await;
        };
        // The server may have closed, or it may wait for body bytes that are not sent.
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

/// Writes the upload. Returns whether a write failed.
async fn write<T: AsyncRead + AsyncWrite>(
    script: &Script,
    writer: &mut WriteHalf<T>,
    hears: &mut watch::Receiver<Heard>,
    rest_is_unsent: &AtomicBool,
    patience: &Patience,
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
    let mut body = script.body();
    if script.body == Body::Waits {
        let rest = body.split_off(body.len() - script.length / 2);
        bytes.extend(body);
        if let Some(failed) = write_in_pieces(script, writer, &bytes).await {
            return failed;
        }
        bytes.clear();
        let heard = hears.wait_for(|heard| *heard == Heard::Final);
        let _ = timeout(patience.for_early_response(0), heard).await;
        rest_is_unsent.store(false, Ordering::Release);
        body = rest;
    }
    bytes.extend(body);
    if script.then == Then::Pipelined {
        bytes.extend_from_slice(NEXT);
    }
    let failed = write_in_pieces(script, writer, &bytes).await;
    failed.unwrap_or(false)
}

/// Returns `None` when everything is written. Otherwise returns whether a write failed.
async fn write_in_pieces<T: AsyncRead + AsyncWrite>(
    script: &Script,
    writer: &mut WriteHalf<T>,
    bytes: &[u8],
) -> Option<bool> {
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
            Ok(Err(_)) => return Some(true),
            // The server neither reads nor closes.
            Err(_) => return Some(false),
        }
    }
    None
}

struct Client<'a, T> {
    reader: ReadHalf<T>,
    received: Vec<u8>,
    responses: Vec<Delivered>,
    /// Whether the connection ended cleanly.
    end: Option<bool>,
    heard: watch::Sender<Heard>,
    /// Whether the client waits before it sends the second half of its body.
    rest_is_unsent: Arc<AtomicBool>,
    patience: &'a Patience,
    silence: Duration,
}

impl<T: AsyncRead + AsyncWrite> Client<'_, T> {
    /// Reads until this many responses are whole, the connection ends, or the server is silent.
    async fn read(&mut self, wanted: usize, reads: Reads) {
        let length = match reads {
            Reads::Steadily(length) => length,
            Reads::WhileWriting | Reads::AfterWriting => 256 * 1024,
        };
        let mut buffer = vec![0; length];
        while self.end.is_none() && self.responses.len() < wanted {
            let owed = self.patience.for_response(self.responses.len());
            let silence = owed.max(self.silence);
            if !self.read_once(&mut buffer, silence).await {
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

    /// Reads once. Returns `false` after a silence.
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
                self.responses.push(Delivered {
                    status: response.status,
                    length: response.content.len(),
                    counted: number_in(&response.body),
                    early: self.rest_is_unsent.load(Ordering::Acquire),
                });
                self.heard.send_replace(Heard::Final);
            } else {
                self.heard.send_replace(Heard::Continue);
            }
            self.received = rest;
        }
    }
}
