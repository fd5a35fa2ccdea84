//! One upload by an HTTP/3 client.

use std::{pin::pin, time::Duration};

use bytes::{Buf as _, Bytes};
use h3::{
    client,
    error::{Code, StreamError},
};
use h3_quinn::SendStream;
use http::{HeaderMap, Method, Request, Response, header};
use quinn::{Connection, ConnectionError};
use tokio::{
    join, select,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    endpoint::close,
    quic::{self, OpenStreams, RecvStream, SharedFrames},
};
use crate::{
    body::{Body, Pace},
    context::{Context, milliseconds, unsent},
    observation::{Observation, Received},
    socket::Log,
};

/// How a client uses its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http3 {
    /// Stops sending at the head of the response, and resets the stream after the response.
    Stops,
    /// Sends to the end, and reads meanwhile. `STOP_SENDING` with another code than `H3_NO_ERROR`
    /// is a failed upload, as it is for curl.
    SendsAll,
    /// Reads nothing before the body is sent. `STOP_SENDING` is a failed upload, as it is for h3.
    SendsFirst,
}

/// Bytes of a `DATA` frame. A slow upload is silent for as long as one takes.
const FRAME: usize = 16 << 10;

/// The time between two looks at whether a reset has been sent. quinn has no event for it.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

type Requests = client::SendRequest<OpenStreams, Bytes>;
type SendHalf = client::RequestStream<SendStream<Bytes>, Bytes>;
type ReceiveHalf = client::RequestStream<RecvStream, Bytes>;

/// Uploads once, or returns why the request cannot be sent.
pub(crate) async fn run(client: Http3, context: &Context) -> Result<Observation, String> {
    let body = Body::new(&context.options);
    let request = context.request(&body)?;
    let connection = match &context.http3 {
        Ok(endpoint) => endpoint.connect().await,
        Err(why) => Err(why.clone()),
    };
    let connection = match connection {
        Ok(connection) => connection,
        Err(error) => {
            return Ok(Observation {
                no_connection: Some(error),
                ..Observation::default()
            });
        }
    };
    let start = Instant::now();
    let mut upload = Upload::new(context, &connection, body);
    let is_idle = select! {
        biased;
        () = upload.play(client, request) => false,
        () = idle(&connection, context.options.timeout) => true,
    };
    let seen = match upload.sending.unsent.take() {
        Some(why) => Err(why),
        None => Ok(upload.observe(client, start, is_idle)),
    };
    close(&connection);
    seen
}

/// Completes when nothing has moved on the streams for `timeout`, or for an eighth longer.
async fn idle(connection: &Connection, timeout: Duration) {
    // quinn has no event for it.
    const LOOKS: u32 = 8;
    let mut moved = movements(connection);
    let mut still = 0;
    while still < LOOKS {
        sleep(timeout / LOOKS).await;
        let now = movements(connection);
        still = if now == moved { still + 1 } else { 0 };
        moved = now;
    }
}

/// Counts what arrives: a part of the response, or the receipt for a part of the upload. quinn
/// accepts up to 10 MB that it has yet to send, and a `PING` of the server moves no byte.
fn movements(connection: &Connection) -> u64 {
    let frames = connection.stats().frame_rx;
    frames.stream + frames.acks
}

struct Upload {
    connection: Connection,
    sending: Sending,
    download: Download,
}

/// The request body.
struct Sending {
    log: Log,
    body: Body,
    pace: Pace,
    sent: u64,
    finished_at: Option<Instant>,
    /// The code with which the server asked to stop before the body was sent.
    stopped: Option<Code>,
    /// Why h3 refused the request.
    unsent: Option<String>,
}

/// The response.
struct Download {
    connection: Connection,
    to_head: bool,
    status: Option<u16>,
    interim_100: bool,
    received: Received,
    frames: SharedFrames,
    /// The declared length of the body.
    length: Option<u64>,
    first_byte: Option<Instant>,
    failed_before_whole: bool,
    failed_at: Option<Instant>,
    /// The code with which the server reset the response.
    reset: Option<Code>,
}

impl Upload {
    fn new(context: &Context, connection: &Connection, body: Body) -> Self {
        Self {
            connection: connection.clone(),
            sending: Sending {
                log: Log::new(),
                body,
                pace: Pace::new(context.options.rate),
                sent: 0,
                finished_at: None,
                stopped: None,
                unsent: None,
            },
            download: Download {
                connection: connection.clone(),
                to_head: context.options.method == Method::HEAD,
                status: None,
                interim_100: false,
                received: Received::Nothing,
                frames: SharedFrames::default(),
                length: None,
                first_byte: None,
                failed_before_whole: false,
                failed_at: None,
                reset: None,
            },
        }
    }

    async fn play(&mut self, client: Http3, request: Request<()>) {
        let quic = quic::Connection::new(self.connection.clone(), &self.download.frames);
        let built = client::builder().send_grease(false).build(quic).await;
        let Ok((mut driver, mut requests)): Result<(_, Requests), _> = built else {
            // The connection tells why.
            return;
        };
        // Ends when the upload is over.
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // The streams report the error, too.
            driver.wait_idle().await;
        });
        let stream = match requests.send_request(request).await {
            Ok(stream) => stream,
            // With an authority and no Host, h3 has no other reason of its own.
            Err(error @ StreamError::HeaderTooBig { .. }) => {
                self.sending.unsent = Some(unsent(error));
                return;
            }
            Err(error) => return self.sending.fail(&error),
        };
        let (mut send, mut receive) = stream.split();
        let Self {
            connection,
            sending,
            download,
        } = self;
        match client {
            Http3::Stops => {
                {
                    let mut head = pin!(download.head(&mut receive));
                    select! {
                        biased;
                        () = &mut head => {}
                        () = sending.send(&mut send) => head.await,
                    }
                }
                download.rest(&mut receive).await;
                if sending.finished_at.is_none() && sending.stopped.is_none() {
                    // RFC 9114 §4.1.1.
                    send.stop_stream(Code::H3_REQUEST_CANCELLED);
                    until_reset(connection).await;
                }
            }
            Http3::SendsAll => {
                join!(
                    biased;
                    download.whole(&mut receive),
                    sending.send(&mut send),
                );
            }
            Http3::SendsFirst => {
                sending.send(&mut send).await;
                download.whole(&mut receive).await;
            }
        }
    }

    fn observe(self, client: Http3, start: Instant, is_idle: bool) -> Observation {
        let notes = self.sending.log.notes();
        let Sending {
            stopped,
            finished_at,
            ..
        } = self.sending;
        let Download {
            received,
            first_byte,
            ..
        } = self.download;
        let upload_failed = match client {
            Http3::Stops => false,
            Http3::SendsAll => stopped.is_some_and(|code| code != Code::H3_NO_ERROR),
            Http3::SendsFirst => stopped.is_some(),
        };
        let closed = self.connection.close_reason();
        let is_stalled = is_idle || closed == Some(ConnectionError::TimedOut);
        let mut seen = Observation {
            status: self.download.status,
            received,
            interim_100: self.download.interim_100,
            failed_write: notes.failed_write,
            reset: closed.as_ref().and_then(closed_by_server),
            reset_before_whole: upload_failed || self.download.failed_before_whole,
            stop_sending: stopped.map(|code| code.to_string()),
            stream_reset: self.download.reset.map(|code| code.to_string()),
            stalled: is_stalled && received != Received::Whole,
            early: match (finished_at, first_byte.or(self.download.failed_at)) {
                (None, _) => Some(true),
                (Some(_), _) if client == Http3::SendsFirst => None,
                (Some(finished_at), Some(came_at)) => Some(came_at < finished_at),
                (Some(_), None) => None,
            },
            first_byte_ms: first_byte.map(|at| milliseconds(at - start)),
            body_sent: self.sending.sent,
            ..Observation::default()
        };
        if seen.is_early() && seen.status.is_none_or(|status| status >= 300) {
            seen.sent_in_vain = seen.body_sent;
        }
        seen
    }
}

/// Waits until a reset has been sent: without it, a close of the connection takes its place.
async fn until_reset(connection: &Connection) {
    while connection.stats().frame_tx.reset_stream == 0 && connection.close_reason().is_none() {
        sleep(RESET_INTERVAL).await;
    }
}

/// Returns how the server closed the connection, if it was the server.
fn closed_by_server(closed: &ConnectionError) -> Option<String> {
    match closed {
        ConnectionError::ApplicationClosed(close) => {
            let code = Code::from(close.error_code.into_inner());
            Some(format!("closed by the server: {code}"))
        }
        ConnectionError::LocallyClosed | ConnectionError::TimedOut => None,
        error => Some(error.to_string()),
    }
}

impl Sending {
    /// Sends the body, until it is whole or the server stops it.
    async fn send(&mut self, stream: &mut SendHalf) {
        for mut block in self.body.blocks() {
            // Not after a block: a client that is stopped there would not know that it was the last.
            self.pace.wait(self.sent).await;
            while !block.is_empty() {
                let part = block.split_to(block.len().min(FRAME));
                let length = part.len() as u64;
                if let Err(error) = stream.send_data(part).await {
                    return self.fail(&error);
                }
                self.sent += length;
            }
        }
        match stream.finish().await {
            Ok(()) => self.finished_at = Some(Instant::now()),
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &StreamError) {
        let words = match error {
            StreamError::RemoteTerminate { code, .. } => {
                self.stopped = Some(*code);
                format!("STOP_SENDING: {code}")
            }
            error => error.to_string(),
        };
        self.log.note_failed_write(words);
    }
}

impl Download {
    async fn whole(&mut self, stream: &mut ReceiveHalf) {
        self.head(stream).await;
        self.rest(stream).await;
    }

    async fn head(&mut self, stream: &mut ReceiveHalf) {
        if let Err(error) = self.read_head(stream).await {
            self.fail(&error);
        }
    }

    /// Reads the body and the end, if the head has come.
    async fn rest(&mut self, stream: &mut ReceiveHalf) {
        if self.received == Received::Nothing {
            return;
        }
        if let Err(error) = self.read_rest(stream).await {
            self.fail(&error);
        }
    }

    async fn read_head(&mut self, stream: &mut ReceiveHalf) -> Result<(), StreamError> {
        let response = loop {
            let response = stream.recv_response().await?;
            if !response.status().is_informational() {
                break response;
            }
            self.interim_100 |= response.status() == 100;
        };
        self.first_byte = Some(Instant::now());
        self.status = Some(response.status().as_u16());
        self.received = Received::Part;
        self.length = self.declared_length(&response);
        Ok(())
    }

    fn declared_length(&self, response: &Response<()>) -> Option<u64> {
        match response.status().as_u16() {
            204 | 304 => None,
            _ if self.to_head => None,
            _ => content_length(response.headers()),
        }
    }

    async fn read_rest(&mut self, stream: &mut ReceiveHalf) -> Result<(), StreamError> {
        let mut length = 0;
        loop {
            let data = stream.recv_data().await?;
            if let Some(data) = data {
                length += data.remaining() as u64;
                continue;
            }
            let frames = self.frames.lock();
            if frames.is_cut() {
                return Ok(());
            }
            // Otherwise it is an empty frame, or trailers.
            if frames.has_ended() && frames.data() == length {
                break;
            }
        }
        // RFC 9114 §4.1.2: another length makes the response malformed.
        if self.length.is_none_or(|declared| declared == length) {
            self.received = Received::Whole;
            let closed = self.connection.close_reason();
            self.failed_before_whole = closed.as_ref().and_then(closed_by_server).is_some();
        }
        Ok(())
    }

    fn fail(&mut self, error: &StreamError) {
        self.failed_at = Some(Instant::now());
        if let StreamError::RemoteTerminate { code, .. } = error {
            self.reset = Some(*code);
        }
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}
