//! Plays a script to a server and records what its client saw.

use std::{
    future::Future,
    io::{self, ErrorKind},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use testkit::{
    client::{PATIENCE, Response},
    streams::number_in,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    time::{sleep, timeout},
};

use super::script::{Expect, Reads, Script, Then};

const BLOCK: usize = 64 * 1024;

const NEXT: &[u8] = b"POST /raw HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello";

/// The result of a script.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) write_error: Option<io::Error>,
    /// The whole responses: the status of each, and how its text begins.
    pub(crate) responses: Vec<Answer>,
    /// How the connection ended, if the server had to end it.
    pub(crate) end: Option<io::Result<()>>,
}

impl Seen {
    /// Returns whether a TLS connection ended without `close_notify`.
    pub(crate) fn ends_without_notice(&self) -> bool {
        let error = self.end.as_ref().and_then(|end| end.as_ref().err());
        error.is_some_and(|error| error.kind() == ErrorKind::UnexpectedEof)
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// How many body bytes the server reports as read.
    pub(crate) counted: Option<usize>,
    says_close: bool,
}

/// Plays the script over its own connection.
pub(crate) async fn play<T: AsyncRead + AsyncWrite>(script: &Script, socket: T) -> Seen {
    let (reader, mut writer) = tokio::io::split(socket);
    let mut client = Client {
        reader,
        received: Vec::new(),
        responses: Vec::new(),
        leaves: script.reads == Reads::AndStops || script.expect == Expect::Patient,
    };
    let never = AtomicBool::new(false);
    let head = script.head();
    let told = match script.expect {
        Expect::Patient => match write(&mut writer, script, &head, &never).await {
            Ok(()) => client.is_told_to_go_on().await,
            Err(error) => Err(error),
        },
        Expect::Nothing | Expect::Impatient => Ok(Some(head)),
    };
    let (write_error, end) = match told {
        Err(error) => (None, Some(Err(error))),
        Ok(None) => (None, client.read(1, false, &never).await),
        Ok(Some(mut bytes)) => {
            bytes.extend(script.body());
            if script.then == Then::Pipelined {
                bytes.extend_from_slice(NEXT);
            }
            let (write_error, end) = client.upload(&mut writer, script, &bytes).await;
            let is_kept = end.is_none() && write_error.is_none() && !client.has_left();
            if script.then == Then::Next && is_kept {
                let write_error = write_piece(&mut writer, NEXT).await.err();
                (write_error, client.read(2, false, &never).await)
            } else {
                (write_error, end)
            }
        }
    };
    Seen {
        write_error,
        responses: client.responses,
        end,
    }
}

struct Client<T> {
    reader: ReadHalf<T>,
    received: Vec<u8>,
    responses: Vec<Answer>,
    /// The client closes when it has read a refusal.
    leaves: bool,
}

impl<T: AsyncRead + AsyncWrite> Client<T> {
    fn has_left(&self) -> bool {
        self.leaves && self.responses.first().is_some_and(Answer::refuses)
    }

    /// Writes, and reads concurrently or afterwards.
    async fn upload(
        &mut self,
        writer: &mut WriteHalf<T>,
        script: &Script,
        bytes: &[u8],
    ) -> (Option<io::Error>, Option<io::Result<()>>) {
        let refused = AtomicBool::new(false);
        let never = AtomicBool::new(false);
        let stop = match script.reads {
            Reads::AndStops => &refused,
            Reads::AtOnce | Reads::Last => &never,
        };
        let send = async {
            let error = write(writer, script, bytes, stop).await.err();
            if script.half_close {
                // The server may have closed by now.
                let _ = patiently(writer.shutdown()).await;
            }
            error
        };
        let responses = match script.then {
            Then::Pipelined => 2,
            _ => 1,
        };
        let to_the_end = script.half_close || script.then == Then::Close;
        match script.reads {
            Reads::Last => {
                let error = send.await;
                (error, self.read(responses, to_the_end, &refused).await)
            }
            Reads::AtOnce | Reads::AndStops => {
                tokio::join!(send, self.read(responses, to_the_end, &refused))
            }
        }
    }

    /// Reads until this many responses have arrived, or the server has ended the connection.
    /// Returns how it ended, if the server had to end it.
    async fn read(
        &mut self,
        responses: usize,
        to_the_end: bool,
        refused: &AtomicBool,
    ) -> Option<io::Result<()>> {
        let mut buffer = vec![0; BLOCK];
        loop {
            self.take_responses();
            if refuses(&self.received) || self.responses.iter().any(Answer::refuses) {
                refused.store(true, Ordering::Release);
            }
            if self.has_left() {
                return None;
            }
            let closes = self
                .responses
                .last()
                .is_some_and(|response| response.says_close);
            if self.responses.len() >= responses && !closes && !to_the_end {
                return None;
            }
            match patiently(self.reader.read(&mut buffer)).await {
                Ok(0) => return Some(Ok(())),
                Ok(read) => self.received.extend_from_slice(&buffer[..read]),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Moves each whole response from the bytes to `responses`.
    fn take_responses(&mut self) {
        while let Some((response, rest)) = Response::parse(&self.received) {
            let rest = rest.to_vec();
            if response.status >= 200 {
                self.responses.push(Answer::of(&response));
            }
            self.received = rest;
        }
    }

    /// Waits for the response to the head. Returns the bytes to send before the body if it is a
    /// 100, and `None` if it is a final response, after which the client sends nothing.
    async fn is_told_to_go_on(&mut self) -> io::Result<Option<Vec<u8>>> {
        while !self.received.ends_with(b"\r\n\r\n") {
            let byte = patiently(self.reader.read_u8()).await?;
            self.received.push(byte);
        }
        if !self.received.starts_with(b"HTTP/1.1 100 ") {
            return Ok(None);
        }
        self.received.clear();
        Ok(Some(Vec::new()))
    }
}

/// Limits how long a test waits for a socket.
async fn patiently<R>(operation: impl Future<Output = io::Result<R>>) -> io::Result<R> {
    let silence = || io::Error::new(ErrorKind::TimedOut, "the server is silent");
    timeout(PATIENCE, operation)
        .await
        .unwrap_or_else(|_| Err(silence()))
}

/// Returns whether the head of an error response has arrived.
fn refuses(received: &[u8]) -> bool {
    let is_error = received.starts_with(b"HTTP/1.1 4") || received.starts_with(b"HTTP/1.1 5");
    is_error && received.windows(4).any(|four| four == b"\r\n\r\n")
}

impl Answer {
    fn of(response: &Response) -> Self {
        Self {
            status: response.status,
            counted: number_in(&response.body),
            says_close: response
                .header("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("close")),
        }
    }

    fn refuses(&self) -> bool {
        self.status >= 400
    }
}

async fn write<T: AsyncRead + AsyncWrite>(
    writer: &mut WriteHalf<T>,
    script: &Script,
    bytes: &[u8],
    stop: &AtomicBool,
) -> io::Result<()> {
    let writes = &script.writes;
    let mut rest = bytes;
    let mut lengths = writes.first.iter().copied();
    let mut number = 0;
    while !rest.is_empty() {
        for (_, pause) in writes.pauses.iter().filter(|(before, _)| *before == number) {
            sleep(Duration::from_millis(*pause)).await;
        }
        if stop.load(Ordering::Acquire) {
            return Ok(());
        }
        let length = lengths.next().unwrap_or(BLOCK).min(rest.len());
        write_piece(writer, &rest[..length]).await?;
        rest = &rest[length..];
        number += 1;
    }
    Ok(())
}

/// Writes a piece. Over TLS, only flushed bytes are sent.
async fn write_piece<T: AsyncRead + AsyncWrite>(
    writer: &mut WriteHalf<T>,
    piece: &[u8],
) -> io::Result<()> {
    patiently(async {
        writer.write_all(piece).await?;
        writer.flush().await
    })
    .await
}
