//! Uploads on the streams of one HTTP/2 connection, and what their client saw.

use std::{future::poll_fn, time::Duration};

use ::h2::{RecvStream, SendStream, client::ResponseFuture};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, header::CONTENT_LENGTH};
use proptest::prelude::*;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::timeout,
};

use crate::h2;

/// A server that is silent for this long sends nothing more. Some scripts never get a response, and
/// the handlers respond within milliseconds.
pub const SILENCE: Duration = Duration::from_millis(500);

/// How long the streams of a connection may take. Long responses share its window, and take seconds
/// on a loaded machine.
const STREAMS: Duration = Duration::from_secs(60);

/// An upload on its own stream.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The path names the handler.
    pub path: &'static str,
    /// The length of the body in bytes.
    pub length: usize,
    pub declares_length: bool,
    /// The length of a DATA frame in bytes.
    pub frame: usize,
    pub client: Client,
}

/// When an HTTP/2 client stops sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// A reset stops it, and the response still counts (RFC 9113 §8.1).
    Stops,
    /// A reset before it has sent everything is a failure, whatever has arrived.
    CannotStop,
    /// The head of an error response makes it end its stream short of the whole body. A stream that
    /// was reset by then is a failure.
    EndsShort,
    /// It sends half of the body, waits for the response, and sends the second half.
    Waits,
}

/// The uploads of one HTTP/2 connection.
pub type Streams = Vec<Upload>;

pub fn clients() -> impl Strategy<Value = Client> {
    prop_oneof![
        3 => Just(Client::Stops),
        3 => Just(Client::CannotStop),
        2 => Just(Client::EndsShort),
        1 => Just(Client::Waits),
    ]
}

/// The lengths of DATA frames in bytes.
pub fn frames() -> impl Strategy<Value = usize> {
    prop_oneof![Just(16 * 1024), 1000..16 * 1024usize]
}

/// A whole response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub status: u16,
    /// The length of its body in bytes.
    pub length: usize,
    /// How many body bytes the server reports as read.
    pub counted: Option<usize>,
    /// Whether a part of the request body was still unsent.
    pub early: bool,
}

/// Returns the first number among the words of a response.
pub fn number_in(body: &str) -> Option<usize> {
    let mut words = body.split_whitespace();
    words.find_map(|word| word.parse().ok())
}

/// The responses in the order of their requests.
pub type Responses = Vec<Option<Delivered>>;

/// How long a client waits for a silent server.
#[derive(Clone, Debug)]
pub struct Patience {
    /// The time for a response that the other server has delivered, if this server comes second.
    owed: Duration,
    other: Responses,
}

impl Patience {
    /// The patience for the server that comes first.
    pub const SHORT: Self = Self {
        owed: SILENCE,
        other: Vec::new(),
    };

    /// Returns the patience for a server that owes what this client has seen of another.
    pub fn for_what(owed: Duration, seen: &Responses) -> Self {
        Self {
            owed,
            other: seen.clone(),
        }
    }

    fn of(&self, is_owed: impl Fn(&Delivered) -> bool, number: usize) -> Duration {
        let response = self.other.get(number).and_then(Option::as_ref);
        if response.is_some_and(is_owed) {
            self.owed
        } else {
            SILENCE
        }
    }

    /// Returns the time to wait for the response with this number.
    pub fn for_response(&self, number: usize) -> Duration {
        self.of(|_| true, number)
    }

    /// Returns the time to wait for the response with this number while half of its request body is
    /// unsent.
    pub fn for_early_response(&self, number: usize) -> Duration {
        self.of(|response| response.early, number)
    }
}

/// Plays all uploads concurrently over one connection, and then the `last` of them alone.
pub async fn play_streams<T>(
    streams: &Streams,
    last: Option<&Upload>,
    socket: T,
    patience: &Patience,
) -> Responses
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client = h2::over(socket).await;
    let play = |(number, upload)| {
        let client = client.clone();
        async move {
            let early = patience.for_early_response(number);
            let exchange = exchange(client, upload, early);
            timeout(STREAMS + early, exchange).await.ok()?.ok()
        }
    };
    let mut responses = join_all(streams.iter().enumerate().map(play)).await;
    if let Some(last) = last {
        responses.push(play((streams.len(), last)).await);
    }
    responses
}

/// The part of the response that the client's sending half knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Heard {
    Nothing,
    /// The head of an error response.
    ErrorHead,
    /// The whole response.
    Whole,
}

/// How the sending half of a client ended.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// Whether it sent everything before a reset came.
    everything: bool,
    /// Whether the response was whole while half of the body was unsent.
    early: bool,
}

/// Returns `Err` if this client does not count what it got as a response.
async fn exchange(client: h2::Client, upload: &Upload, early: Duration) -> Result<Delivered, Lost> {
    let mut request = Request::post(format!("http://test{}", upload.path));
    if upload.declares_length {
        request = request.header(CONTENT_LENGTH, upload.length);
    }
    let request = request.body(()).expect("it is well-formed");
    let mut client = client.ready().await?;
    let (response, mut stream) = client.send_request(request, upload.length == 0)?;
    let (heard, hears) = watch::channel(Heard::Nothing);
    // The stream outlives both halves, because dropping it early would reset it.
    let sending = send(upload, &mut stream, hears, early);
    let receiving = receive(response, heard);
    if upload.client == Client::Stops {
        let mut sending = std::pin::pin!(sending);
        let mut receiving = std::pin::pin!(receiving);
        let response = tokio::select! {
            response = &mut receiving => response,
            _ = &mut sending => receiving.await,
        };
        return Ok(response?);
    }
    let (sent, response) = tokio::join!(sending, receiving);
    if !sent.everything && upload.client != Client::Waits {
        return Err(Lost);
    }
    Ok(Delivered {
        early: sent.early,
        ..response?
    })
}

/// Sends as much of the body as the server accepts.
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
    let ends_short = upload.client == Client::EndsShort;
    // These bytes are sent after the wait.
    let rest = match upload.client {
        Client::Waits => upload.length / 2,
        _ => 0,
    };
    let mut left = upload.length;
    while left > 0 {
        if left == rest {
            let whole = hears.wait_for(|heard| *heard == Heard::Whole);
            sent.early = matches!(timeout(patience, whole).await, Ok(Ok(_)));
        }
        let next = if left > rest { left - rest } else { left }.min(upload.frame);
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
) -> Result<Delivered, ::h2::Error> {
    let (parts, mut body): (_, RecvStream) = response.await?.into_parts();
    if parts.status.is_client_error() {
        heard.send_replace(Heard::ErrorHead);
    }
    let (mut length, mut start) = (0, Vec::new());
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        length += data.len();
        if length < 100 {
            start.extend_from_slice(&data);
        }
    }
    heard.send_replace(Heard::Whole);
    Ok(Delivered {
        status: parts.status.as_u16(),
        length,
        counted: number_in(&String::from_utf8_lossy(&start)),
        early: false,
    })
}

/// The client reports a failure instead of a response.
#[derive(Debug)]
struct Lost;

impl From<::h2::Error> for Lost {
    fn from(_: ::h2::Error) -> Self {
        Self
    }
}
