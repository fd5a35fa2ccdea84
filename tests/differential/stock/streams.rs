//! Uploads on the streams of one HTTP/2 connection, and what their client saw.

use std::{future::poll_fn, time::Duration};

use axum::http::{Request, header::CONTENT_LENGTH};
use bytes::Bytes;
use futures_util::future::join_all;
use h2::{RecvStream, SendStream, client::ResponseFuture};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::timeout,
};

use super::{
    play::{Delivered, Patience, Seen},
    script::{self, Streams, Upload},
};
use crate::support::h2::{Client, over};

/// How long the streams of a connection may take. Long responses share its window, and take
/// seconds on a loaded machine.
const STREAMS: Duration = Duration::from_secs(60);

const FRAME: usize = 16 * 1024;

/// Plays all uploads at the same time over one connection.
pub(crate) async fn play_streams<T>(streams: &Streams, socket: T, patience: &Patience) -> Seen
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client = over(socket).await;
    let exchanges = streams.iter().enumerate().map(|(nth, upload)| {
        let client = client.clone();
        async move {
            let early = patience.for_early_response(nth);
            let exchange = exchange(client, upload, early);
            timeout(STREAMS + early, exchange).await.ok()?.ok()
        }
    });
    let responses = join_all(exchanges).await;
    Seen {
        responses,
        write_failed: false,
        was_reset: false,
    }
}

/// What the sending half of a client hears of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Heard {
    Nothing,
    /// The head of an error.
    ErrorHead,
    /// All of it.
    Whole,
}

/// How the sending half of a client ended.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// It sent all that it had to send before a reset came.
    everything: bool,
    /// The response was whole while half of the body was unsent.
    early: bool,
}

/// `Err` if this client does not count what it got as a response.
async fn exchange(client: Client, upload: &Upload, early: Duration) -> Result<Delivered, Lost> {
    let mut request = Request::post(format!("http://test{}", upload.path));
    if upload.declares_length {
        request = request.header(CONTENT_LENGTH, upload.length);
    }
    let request = request.body(()).expect("it is well-formed");
    let mut client = client.ready().await?;
    let (response, mut stream) = client.send_request(request, upload.length == 0)?;
    let (heard, hears) = watch::channel(Heard::Nothing);
    // The stream outlives both halves: dropping it early would reset it.
    let sending = send(upload, &mut stream, hears, early);
    let receiving = receive(response, heard);
    if upload.client == script::Client::Stops {
        let mut sending = std::pin::pin!(sending);
        let mut receiving = std::pin::pin!(receiving);
        let response = tokio::select! {
            response = &mut receiving => response,
            _ = &mut sending => receiving.await,
        };
        return Ok(response?);
    }
    let (sent, response) = tokio::join!(sending, receiving);
    if !sent.everything && upload.client != script::Client::Waits {
        return Err(Lost);
    }
    Ok(Delivered {
        early: sent.early,
        ..response?
    })
}

/// Sends as much of the body as the server takes.
async fn send(
    upload: &Upload,
    stream: &mut SendStream<Bytes>,
    mut hears: watch::Receiver<Heard>,
    patience: Duration,
) -> Sent {
    let mut sent = Sent {
        everything: false,
        early: false,
    };
    let ends_short = upload.client == script::Client::EndsShort;
    // The rest is sent after the wait.
    let rest = match upload.client {
        script::Client::Waits => upload.length / 2,
        _ => 0,
    };
    let mut left = upload.length;
    while left > 0 {
        if left == rest {
            let whole = hears.wait_for(|heard| *heard == Heard::Whole);
            sent.early = matches!(timeout(patience, whole).await, Ok(Ok(_)));
        }
        let next = if left > rest { left - rest } else { left }.min(FRAME);
        stream.reserve_capacity(next);
        let room = tokio::select! {
            room = poll_fn(|cx| stream.poll_capacity(cx)) => room,
            Ok(_) = hears.wait_for(|heard| *heard >= Heard::ErrorHead), if ends_short => {
                sent.everything = stream.send_data(Bytes::new(), true).is_ok();
                return sent;
            }
        };
        let Some(Ok(room)) = room else { return sent };
        let room = room.min(next);
        left -= room;
        let data = Bytes::from(vec![0; room]);
        if stream.send_data(data, left == 0).is_err() {
            return sent;
        }
    }
    sent.everything = true;
    sent
}

/// Reads the response to its end.
async fn receive(
    response: ResponseFuture,
    heard: watch::Sender<Heard>,
) -> Result<Delivered, h2::Error> {
    let (parts, mut body): (_, RecvStream) = response.await?.into_parts();
    if parts.status.is_client_error() {
        heard.send_replace(Heard::ErrorHead);
    }
    let mut length = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        length += data.len();
    }
    heard.send_replace(Heard::Whole);
    Ok(Delivered {
        status: parts.status.as_u16(),
        length,
        early: false,
    })
}

/// This client reports a failure, and no response.
#[derive(Debug)]
struct Lost;

impl From<h2::Error> for Lost {
    fn from(_: h2::Error) -> Self {
        Self
    }
}
