//! Everything that clients do to an upload form, honest and malicious.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{SendStream, client::handshake};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    form::LIMIT,
    honest::{Honest, PAUSE, exchange, status, upload},
};

const OVER: usize = 2 * LIMIT;

/// Slightly above the limit, so that the connection is worth keeping.
const LITTLE_OVER: usize = LIMIT + 1000;

/// How long a client waits for a response.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts one client of each kind. Each continues until it is aborted.
pub(crate) fn start(addr: SocketAddr, honest: &Arc<Honest>) -> Vec<JoinHandle<()>> {
    let shared = || Arc::clone(honest);
    let mut clients = vec![
        tokio::spawn(shared().read_pages(addr)),
        tokio::spawn(shared().upload(addr, LIMIT / 4, 200)),
        tokio::spawn(shared().upload(addr, OVER, 413)),
    ];
    for kind in Kind::ALL {
        let honest = shared();
        clients.push(tokio::spawn(async move {
            loop {
                kind.once(addr, &honest).await;
                sleep(kind.pause()).await;
            }
        }));
    }
    clients
}

#[derive(Clone, Copy)]
enum Kind {
    AcceptedChunked,
    RefusedChunked,
    RefusedForm,
    /// Uploads and pages on one connection.
    Kept,
    /// HTTP/2 streams on one connection.
    Streams,
    /// It closes its sending side after a refused upload.
    HalfClosed,
    Reset,
    /// It leaves in the middle of a body.
    Aborted,
    /// It leaves in the middle of a file that is being stored.
    AbortedForm,
    Drip,
    Silent,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::AcceptedChunked,
        Self::RefusedChunked,
        Self::RefusedForm,
        Self::Kept,
        Self::Streams,
        Self::HalfClosed,
        Self::Reset,
        Self::Aborted,
        Self::AbortedForm,
        Self::Drip,
        Self::Silent,
    ];

    /// Clients that wait for no response would leave more behind in a second than a disk can take.
    fn pause(self) -> Duration {
        match self {
            Self::Reset | Self::Aborted | Self::AbortedForm => 25 * PAUSE,
            _ => PAUSE,
        }
    }

    async fn once(self, addr: SocketAddr, honest: &Honest) {
        let ask = async |request: Vec<u8>| {
            let response = exchange(addr, &request).await;
            response.and_then(|(response, _)| status(&response))
        };
        match self {
            Self::AcceptedChunked => honest.count(ask(chunked("/raw", "", LIMIT / 4)).await, 200),
            Self::RefusedChunked => honest.count(ask(chunked("/raw", "", OVER)).await, 413),
            Self::RefusedForm => honest.count(ask(chunked("/", FORM, OVER)).await, 413),
            Self::Kept => kept(addr, honest).await,
            Self::Streams => {
                if timeout(PATIENCE, streams(addr, honest)).await.is_err() {
                    honest.count(None, 200);
                }
            }
            Self::HalfClosed => honest.count(half_closed(addr).await.ok().flatten(), 413),
            // The results of these clients do not count.
            Self::Reset => ignore(leave(addr, &upload(OVER)[..LIMIT], true).await),
            Self::Aborted => ignore(leave(addr, &upload(LIMIT)[..LIMIT / 2], false).await),
            Self::AbortedForm => {
                let form = chunked("/", FORM, LIMIT);
                ignore(leave(addr, &form[..LIMIT / 2], false).await);
            }
            Self::Drip => ignore(drip(addr).await),
            Self::Silent => ignore(silent(addr).await),
        }
    }
}

fn ignore<T>(_: io::Result<T>) {}

const FORM: &str = "Content-Type: multipart/form-data; boundary=xyz\r\n";

/// Returns a chunked request. With headers, its body is a file in a form.
fn chunked(path: &str, headers: &str, length: usize) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: form\r\nConnection: close\r\n{headers}\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    let mut body = match headers {
        "" => Vec::new(),
        _ => b"--xyz\r\nContent-Disposition: form-data; name=\"photopicker\"; \
               filename=\"a.jpg\"\r\n\r\n"
            .to_vec(),
    };
    body.resize(length, b'0');
    let mut request = head.into_bytes();
    for chunk in body.chunks(10_000) {
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

/// Sends uploads and pages on a kept connection. Refused uploads are drained, so each request gets
/// its response.
async fn kept(addr: SocketAddr, honest: &Honest) {
    let Ok(mut socket) = TcpStream::connect(addr).await else {
        return honest.count(None, 200);
    };
    for (length, expected) in [
        (1000, 200),
        (LITTLE_OVER, 413),
        (0, 200),
        (LITTLE_OVER, 413),
    ] {
        let head = format!("POST /raw HTTP/1.1\r\nHost: form\r\nContent-Length: {length}\r\n\r\n");
        let mut request = head.into_bytes();
        request.resize(request.len() + length, b'0');
        let response = timeout(PATIENCE, async {
            socket.write_all(&request).await?;
            one_response(&mut socket).await
        });
        let status = response.await.ok().and_then(Result::ok);
        let is_close = status.as_ref().is_some_and(|(_, close)| *close);
        honest.count(status.map(|(status, _)| status), expected);
        if is_close {
            break;
        }
    }
}

/// Reads one response. Returns its status, and whether the connection closes after it.
async fn one_response(socket: &mut TcpStream) -> io::Result<(u16, bool)> {
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let field = |name| head.lines().find_map(|line| line.strip_prefix(name));
            let length = field("content-length: ").and_then(|length| length.parse().ok());
            let length: usize = length.ok_or(io::ErrorKind::InvalidData)?;
            if body.len() >= length {
                let status =
                    status(&text.to_ascii_uppercase()).ok_or(io::ErrorKind::InvalidData)?;
                return Ok((status, field("connection: close").is_some()));
            }
        }
        if socket.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Sends six concurrent streams. Every other one is too large.
async fn streams(addr: SocketAddr, honest: &Honest) {
    let Ok(socket) = TcpStream::connect(addr).await else {
        return honest.count(None, 200);
    };
    let Ok((client, connection)) = handshake(socket).await else {
        return honest.count(None, 200);
    };
    let exchanges = [LIMIT / 8, OVER].repeat(3).into_iter().map(|length| {
        let client = client.clone();
        async move {
            let expected = if length > LIMIT { 413 } else { 200 };
            honest.count(stream(client, length).await.ok(), expected);
        }
    });
    let exchanges = futures_util::future::join_all(exchanges);
    // The connection has no separate task, so it is dropped with this function.
    let mut connection = pin!(connection);
    let mut exchanges = pin!(exchanges);
    tokio::select! {
        _ = &mut connection => {
            exchanges.await;
        }
        _ = &mut exchanges => {}
    }
}

async fn stream(client: h2::client::SendRequest<Bytes>, length: usize) -> Result<u16, h2::Error> {
    let mut client = client.ready().await?;
    let request = http::Request::post("http://form/raw")
        .body(())
        .expect("it is well-formed");
    let (response, sending) = client.send_request(request, false)?;
    // If the server stops reading, sending ends, but the response continues.
    let (_, response) = tokio::join!(send(sending, length), response);
    let response = response?;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    Ok(status)
}

async fn send(mut stream: SendStream<Bytes>, length: usize) -> Result<(), h2::Error> {
    let mut left = length;
    while left > 0 {
        stream.reserve_capacity(left.min(16 * 1024));
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let Some(room) = room.transpose()? else {
            break;
        };
        let part = room.min(left);
        left -= part;
        stream.send_data(vec![b'0'; part].into(), left == 0)?;
    }
    Ok(())
}

async fn half_closed(addr: SocketAddr) -> io::Result<Option<u16>> {
    let mut socket = TcpStream::connect(addr).await?;
    socket.write_all(&upload(OVER)).await?;
    socket.shutdown().await?;
    let mut response = String::new();
    timeout(PATIENCE, socket.read_to_string(&mut response)).await??;
    Ok(status(&response))
}

async fn leave(addr: SocketAddr, begin: &[u8], with_a_reset: bool) -> io::Result<()> {
    let mut socket = TcpStream::connect(addr).await?;
    socket.write_all(begin).await?;
    if with_a_reset {
        socket.set_zero_linger()?;
    }
    Ok(())
}

/// Sends a byte per second for eight seconds.
async fn drip(addr: SocketAddr) -> io::Result<()> {
    let mut socket = TcpStream::connect(addr).await?;
    socket.write_all(&upload(OVER)[..LIMIT]).await?;
    for _ in 0..8 {
        socket.write_all(b"0").await?;
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Stays silent for longer than `LingerConfig::idle_timeout`.
async fn silent(addr: SocketAddr) -> io::Result<()> {
    let mut socket = TcpStream::connect(addr).await?;
    socket.write_all(&upload(OVER)[..1000]).await?;
    sleep(Duration::from_secs(7)).await;
    Ok(())
}
