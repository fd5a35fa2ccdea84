//! The HTTP/2 clients: one stream on one connection. They differ in what a reset of the stream
//! does to them.

use std::{future::poll_fn, io, pin::pin};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{ResponseFuture, handshake},
};
use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    join, select,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    body::{Body, Pace},
    connection::{Connection, Properties},
    context::{Context, idle, milliseconds, unsent},
    observation::{Observation, Received},
    socket::Log,
};

/// How a client uses its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http2 {
    /// Stops sending at the head of the response.
    Stops,
    /// Sends to the end. A reset before that is a failed upload, as it is for curl 7.88.
    SendsAll,
    /// Reads nothing before the body is sent, and waits for the window of a stream that was reset,
    /// as httpx does.
    WaitsForWindow,
}

const PROPERTIES: Properties = Properties {
    http2: true,
    small_buffer: false,
    resets: false,
    watches_response: false,
};

/// Returns why the server cannot be probed over HTTP/2, or `None` if it can.
pub(crate) async fn refuses(context: &Context) -> Option<&'static str> {
    let Ok(connection) = context.connector.connect(PROPERTIES).await else {
        return Some("no connection with HTTP/2");
    };
    if context.target.is_tls() {
        let speaks = connection.alpn.as_deref() == Some(b"h2");
        return (!speaks).then_some("the server does not negotiate HTTP/2");
    }
    let greeting = timeout(context.options.timeout, greet(connection));
    match greeting.await {
        Ok(Ok(true)) => None,
        _ => Some("the server does not speak HTTP/2 with prior knowledge"),
    }
}

/// Returns whether the server replies to the preface with a SETTINGS frame.
async fn greet(mut connection: Connection) -> io::Result<bool> {
    const SETTINGS: u8 = 4;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    connection.stream.write_all(preface).await?;
    connection.stream.flush().await?;
    let mut frame = [0; 9];
    connection.stream.read_exact(&mut frame).await?;
    Ok(frame[3] == SETTINGS)
}

/// Uploads once, or returns why the request cannot be sent.
pub(crate) async fn run(client: Http2, context: &Context) -> Result<Observation, String> {
    let body = Body::new(&context.options);
    let request = context.request(&body)?;
    let connection = match context.connector.connect(PROPERTIES).await {
        Ok(connection) => connection,
        Err(error) => return Ok(unconnected(&error.to_string())),
    };
    let log = connection.log.clone();
    let start = Instant::now();
    let mut upload = Upload::new(context, log.clone(), body);
    let stalled = select! {
        biased;
        played = upload.play(client, request, connection) => {
            if let Err(error) = played {
                upload.sending.fail(&error);
            }
            false
        }
        () = idle(&log, context.options.timeout) => true,
    };
    match upload.sending.unsent.take() {
        Some(why) => Err(why),
        None => Ok(upload.observe(client, start, stalled)),
    }
}

fn unconnected(error: &str) -> Observation {
    Observation {
        no_connection: Some(error.to_owned()),
        ..Observation::default()
    }
}

struct Upload {
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
    /// The code with which the server reset the stream before the body was sent.
    reset: Option<Reason>,
    /// Why h2 refused the request.
    unsent: Option<String>,
}

/// The response.
#[derive(Default)]
struct Download {
    status: Option<u16>,
    received: Received,
    first_byte: Option<Instant>,
    failed_before_whole: bool,
    body: Option<RecvStream>,
}

impl Upload {
    fn new(context: &Context, log: Log, body: Body) -> Self {
        Self {
            sending: Sending {
                log,
                body,
                pace: Pace::new(context.options.rate),
                sent: 0,
                finished_at: None,
                reset: None,
                unsent: None,
            },
            download: Download::default(),
        }
    }

    async fn play(
        &mut self,
        client: Http2,
        request: Request<()>,
        connection: Connection,
    ) -> Result<(), h2::Error> {
        let (requests, connection) = handshake(connection.stream).await?;
        // Aborts the connection when the upload is over.
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // The streams report the error, too.
            let _ = connection.await;
        });
        let mut requests = requests.ready().await?;
        let (response, mut stream) = match requests.send_request(request, false) {
            Ok(streams) => streams,
            Err(error) if is_local(&error) => {
                self.sending.unsent = Some(unsent(error));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let Self { sending, download } = self;
        let log = sending.log.clone();
        match client {
            Http2::Stops => {
                {
                    let mut head = pin!(download.head(response));
                    select! {
                        biased;
                        head = &mut head => head?,
                        () = sending.send(&mut stream) => head.await?,
                    }
                }
                download.rest(&log).await
            }
            Http2::SendsAll => {
                let (received, ()) = join!(
                    biased;
                    download.whole(response, &log),
                    sending.send(&mut stream),
                );
                received
            }
            Http2::WaitsForWindow => {
                sending.send(&mut stream).await;
                match sending.finished_at {
                    Some(_) => download.whole(response, &log).await,
                    None => Ok(()),
                }
            }
        }
    }

    fn observe(self, client: Http2, start: Instant, stalled: bool) -> Observation {
        let notes = self.sending.log.notes();
        let Download {
            status, received, ..
        } = self.download;
        // A client that wants to send everything takes a reset for a failure.
        let upload_failed = client == Http2::SendsAll && self.sending.reset.is_some();
        let first_byte = self.download.first_byte;
        let mut seen = Observation {
            status,
            received,
            reset_before_whole: upload_failed || self.download.failed_before_whole,
            stream_reset: self.sending.reset.map(|reason| format!("{reason:?}")),
            failed_write: notes.failed_write,
            reset: notes.reset,
            stalled: stalled && received != Received::Whole,
            early: match (self.sending.finished_at, first_byte) {
                (None, _) => Some(true),
                (Some(_), _) if client == Http2::WaitsForWindow => None,
                (Some(finished_at), Some(first_byte)) => Some(first_byte < finished_at),
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

/// Returns whether h2 refused to send, whatever the server does.
fn is_local(error: &h2::Error) -> bool {
    !(error.is_io() || error.is_go_away() || error.is_reset())
}

impl Sending {
    /// Sends the body, until it is whole or the server stops the stream.
    async fn send(&mut self, stream: &mut SendStream<Bytes>) {
        for mut block in self.body.blocks() {
            // Not after a block: a client that is stopped there would not know that it was the last.
            self.pace.wait(self.sent).await;
            while !block.is_empty() {
                stream.reserve_capacity(block.len());
                let room = match poll_fn(|cx| stream.poll_capacity(cx)).await {
                    Some(Ok(room)) => room.min(block.len()),
                    Some(Err(_)) | None => return self.stop(stream).await,
                };
                let part = block.split_to(room);
                if room > 0 && stream.send_data(part, false).is_err() {
                    return self.stop(stream).await;
                }
                self.sent += room as u64;
            }
        }
        match stream.send_data(Bytes::new(), true) {
            Ok(()) => self.finished_at = Some(Instant::now()),
            Err(_) => self.stop(stream).await,
        }
    }

    async fn stop(&mut self, stream: &mut SendStream<Bytes>) {
        match poll_fn(|cx| stream.poll_reset(cx)).await {
            Ok(reason) => {
                self.reset = Some(reason);
                self.log
                    .note_failed_write(format!("stream reset: {reason:?}"));
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &h2::Error) {
        if error.is_reset() && self.finished_at.is_none() {
            self.reset = self.reset.or(error.reason());
        }
        self.log.note_failed_write(error.to_string());
    }
}

impl Download {
    async fn head(&mut self, response: ResponseFuture) -> Result<(), h2::Error> {
        let (parts, body) = response.await?.into_parts();
        self.first_byte = Some(Instant::now());
        self.status = Some(parts.status.as_u16());
        self.received = Received::Part;
        self.body = Some(body);
        Ok(())
    }

    async fn rest(&mut self, log: &Log) -> Result<(), h2::Error> {
        let Some(body) = &mut self.body else {
            return Ok(());
        };
        while let Some(data) = body.data().await {
            let length = data?.len();
            // Only a closed stream has nothing to release.
            let _ = body.flow_control().release_capacity(length);
        }
        body.trailers().await?;
        self.received = Received::Whole;
        self.failed_before_whole = log.notes().has_failed();
        Ok(())
    }

    async fn whole(&mut self, response: ResponseFuture, log: &Log) -> Result<(), h2::Error> {
        self.head(response).await?;
        self.rest(log).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_refused_request_is_a_local_error() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 10);
        let (requests, connection) = handshake(ours).await.unwrap();
        let mut requests: h2::client::SendRequest<Bytes> = requests.ready().await.unwrap();
        let mut request = Request::new(());
        let close = "close".parse().unwrap();
        request.headers_mut().insert("connection", close);
        let error = requests.send_request(request, true).unwrap_err();
        assert!(is_local(&error), "{error}");

        theirs
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        let error = connection.await.unwrap_err();
        assert!(!is_local(&error), "{error}");
    }
}
