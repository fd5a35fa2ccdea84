//! The writing side of an HTTP/1 client.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use http::header::HOST;
use tokio::{
    io::{AsyncWriteExt, WriteHalf},
    time::Instant,
};

use super::plan::{Expect, Framing, Plan};
use crate::{
    body::{Body, Pace},
    connection::Stream,
    context::Context,
    socket::Log,
};

pub(super) struct Writer {
    half: WriteHalf<Box<dyn Stream>>,
    log: Log,
    framing: Framing,
    body: Body,
    pace: Pace,
    /// Bytes of the body that the socket accepted.
    pub(super) sent: u64,
    /// When the request was written whole.
    pub(super) finished_at: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        half: WriteHalf<Box<dyn Stream>>,
        log: Log,
        framing: Framing,
        body: Body,
        rate: Option<u64>,
    ) -> Self {
        Self {
            half,
            log,
            framing,
            body,
            pace: Pace::new(rate),
            sent: 0,
            finished_at: None,
        }
    }

    /// Writes all bytes. Returns `false` if a write fails.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> bool {
        let written = async {
            self.half.write_all(bytes).await?;
            self.half.flush().await
        };
        match written.await {
            Ok(()) => true,
            Err(error) => {
                self.log.note_failed_write(error.to_string());
                false
            }
        }
    }

    /// Writes the body, until it is whole or a write fails.
    ///
    /// If it is dropped, the rest of the body cannot be sent any more.
    pub(super) async fn write_body(&mut self) {
        for block in self.body.blocks() {
            // Not after a block: a client that is stopped there would not know that it was the last.
            self.pace.wait(self.sent).await;
            if !self.write_block(&block).await {
                return;
            }
        }
        let end: &[u8] = match self.framing {
            Framing::ContentLength => b"",
            Framing::Chunked => b"0\r\n\r\n",
        };
        if self.write(end).await {
            self.finished_at = Some(Instant::now());
        }
    }

    /// Closes the sending side.
    pub(super) async fn half_close(&mut self) {
        if let Err(error) = self.half.shutdown().await {
            self.log.note_failed_write(error.to_string());
        }
    }

    async fn write_block(&mut self, block: &Bytes) -> bool {
        let mut bytes = match self.framing {
            Framing::ContentLength => block.clone(),
            Framing::Chunked => chunk(block),
        };
        let mut left = block.len();
        while !bytes.is_empty() {
            match self.half.write(&bytes).await {
                Ok(written) => {
                    let _ = bytes.split_to(written);
                    let of_block = written.min(left);
                    left -= of_block;
                    self.sent += of_block as u64;
                }
                Err(error) => {
                    self.log.note_failed_write(error.to_string());
                    return false;
                }
            }
        }
        true
    }
}

fn chunk(block: &Bytes) -> Bytes {
    let mut chunk = BytesMut::with_capacity(block.len() + 20);
    // Memory can always be written to.
    let _ = write!(chunk, "{:x}\r\n", block.len());
    chunk.extend_from_slice(block);
    chunk.extend_from_slice(b"\r\n");
    chunk.freeze()
}

/// Returns the head of the upload.
pub(super) fn head(context: &Context, plan: Plan, body: &Body) -> Vec<u8> {
    let version = if plan.is_http10 { "1.0" } else { "1.1" };
    let method = context.options.method.as_str();
    let mut head = start(context, method, context.target.path(), version);
    head.extend(format!("Content-Type: {}\r\n", body.content_type()).into_bytes());
    let framing = match plan.framing {
        Framing::ContentLength => format!("Content-Length: {}\r\n", body.length()),
        Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
    };
    head.extend(framing.into_bytes());
    if plan.expect != Expect::No {
        head.extend(b"Expect: 100-continue\r\n");
    }
    head.extend(b"\r\n");
    head
}

/// Returns a second request: a GET of the same URL.
pub(super) fn second(context: &Context) -> Vec<u8> {
    get(context, context.target.path())
}

/// Returns a GET request.
pub(crate) fn get(context: &Context, path: &str) -> Vec<u8> {
    let mut head = start(context, "GET", path, "1.1");
    head.extend(b"\r\n");
    head
}

fn start(context: &Context, method: &str, path: &str, version: &str) -> Vec<u8> {
    let headers = &context.options.headers;
    let agent = crate::USER_AGENT;
    let mut head =
        format!("{method} {path} HTTP/{version}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n")
            .into_bytes();
    if !headers.contains_key(HOST) {
        head.extend(format!("Host: {}\r\n", context.target.authority()).into_bytes());
    }
    for (name, value) in headers {
        head.extend(name.as_str().bytes());
        head.extend(b": ");
        head.extend(value.as_bytes());
        head.extend(b"\r\n");
    }
    head
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{connection::Connector, options::Options, target::Target, volume::Volume};

    #[tokio::test]
    async fn host_of_the_user_is_the_only_one() {
        let target = Target::new("http://127.0.0.1:1/").await.unwrap();
        let volume = Arc::new(Volume::new(0));
        let mut context = Context {
            connector: Connector::new(&target, Duration::ZERO, &volume, false),
            target,
            options: Options::default(),
            http3: Err("not selected".to_owned()),
        };
        let hosts = |context: &Context| {
            let head = String::from_utf8(get(context, "/")).unwrap().to_lowercase();
            let lines = head.lines().filter(|line| line.starts_with("host:"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(hosts(&context), ["host: 127.0.0.1:1"]);
        let other = "other.example".parse().unwrap();
        context.options.headers.insert("host", other);
        assert_eq!(hosts(&context), ["host: other.example"]);
    }
}
