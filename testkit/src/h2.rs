//! An HTTP/2 client that works with frames and prior knowledge. It observes how a stream ends.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{
    Reason, SendStream,
    client::{SendRequest, handshake},
};
use http::{HeaderMap, Request, StatusCode};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use crate::client::PATIENCE;

const CHUNK: usize = 16 * 1024;

pub type Client = SendRequest<Bytes>;

/// Connects over a socket. The streams report why the connection ends.
pub async fn over<T>(socket: T) -> Client
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (client, connection) = handshake(socket).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    client
}

/// The result of an upload.
#[derive(Debug)]
pub struct Seen {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The reset that stopped the upload, or `None` if it was sent whole.
    pub reset: Option<Reason>,
}

/// Sends as much of `length` bytes as the server accepts, and reads the response concurrently.
pub async fn upload(client: &Client, path: &str, length: u64) -> Seen {
    let request = Request::post(format!("http://test{path}"))
        .body(())
        .unwrap();
    exchange(client, request, length, None).await
}

pub async fn exchange(
    client: &Client,
    request: Request<()>,
    length: u64,
    trailers: Option<HeaderMap>,
) -> Seen {
    let done = async {
        let mut client = client
            .clone()
            .ready()
            .await
            .expect("the connection is open");
        let (response, stream) = client.send_request(request, false).unwrap();
        let received = async {
            let (parts, mut body) = response.await.expect("a response").into_parts();
            let mut bytes = Vec::new();
            while let Some(data) = body.data().await {
                let data = data.expect("the response is not cut short");
                body.flow_control().release_capacity(data.len()).unwrap();
                bytes.extend_from_slice(&data);
            }
            (parts, Bytes::from(bytes))
        };
        let (reset, (parts, body)) = tokio::join!(send(stream, length, trailers), received);
        Seen {
            status: parts.status,
            headers: parts.headers,
            body,
            reset,
        }
    };
    timeout(PATIENCE, done).await.expect("it comes to an end")
}

pub async fn send(
    mut stream: SendStream<Bytes>,
    length: u64,
    trailers: Option<HeaderMap>,
) -> Option<Reason> {
    let chunk = Bytes::from(vec![0; CHUNK]);
    let mut left = length;
    while left > 0 {
        stream.reserve_capacity(CHUNK.min(left as usize));
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await;
        let Some(Ok(room)) = room else {
            let reset = poll_fn(|cx| stream.poll_reset(cx)).await;
            return Some(reset.expect("a reset, and not the end of the connection"));
        };
        let part = chunk.slice(..room.min(left as usize).min(CHUNK));
        left -= part.len() as u64;
        let last = left == 0 && trailers.is_none();
        if stream.send_data(part, last).is_err() {
            let reset = poll_fn(|cx| stream.poll_reset(cx)).await;
            return Some(reset.expect("a reset, and not the end of the connection"));
        }
    }
    if let Some(trailers) = trailers {
        stream.send_trailers(trailers).unwrap();
    }
    None
}
