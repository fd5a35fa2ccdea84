//! All that clients do to an upload form, well and ill.

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

/// So little above the limit that the connection is worth keeping.
const LITTLE_OVER: usize = LIMIT + 1000;

/// Of a client that waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts one client of each kind; each goes on until it is aborted.
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
    /// Uploads, and pages, on one connection.
    Kept,
    /// Streams of HTTP/2, on one connection.
    Streams,
    /// It closes its sending side behind a refused upload.
    HalfClosed,
    Reset,
    /// It leaves in the midst of a body.
    Aborted,
    /// As that, within a file that is being stored.
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

    /// Who waits for no answer would leave more behind in a second than a disk takes.
    fn pause(self) -> Duration {
        match self {
            Self::Reset | Self::Aborted | Self::AbortedForm => 25 * PAUSE,
            _ => PAUSE,
        }
    }

    async fn once(self, addr: SocketAddr, honest: &Honest) {
        let ask = async |request: Vec<u8>| {
            let answer = exchange(addr, &request).await;
            answer.and_then(|(answer, _)| status(&answer))
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
            // What becomes of these is theirs.
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

/// A file of the form's, where that is what the headers say.
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

/// What is refused here is drained, and so each has its answer.
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
        let answer = timeout(PATIENCE, async {
            socket.write_all(&request).await?;
            one_answer(&mut socket).await
        });
        let status = answer.await.ok().and_then(Result::ok);
        let is_close = status.as_ref().is_some_and(|(_, close)| *close);
        honest.count(status.map(|(status, _)| status), expected);
        if is_close {
            break;
        }
    }
}

/// Its status, and whether it is the last.
async fn one_answer(socket: &mut TcpStream) -> io::Result<(u16, bool)> {
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

/// Six at once, of which every other is too large.
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
    // Without a task of its own the connection is gone when this is.
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
    // That the server has had enough ends the sending, and not the answer.
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
    let mut answer = String::new();
    timeout(PATIENCE, socket.read_to_string(&mut answer)).await??;
    Ok(status(&answer))
}

async fn leave(addr: SocketAddr, begin: &[u8], with_a_reset: bool) -> io::Result<()> {
    let mut socket = TcpStream::connect(addr).await?;
    socket.write_all(begin).await?;
    if with_a_reset {
        socket.set_zero_linger()?;
    }
    Ok(())
}

/// For eight seconds.
async fn drip(addr: SocketAddr) -> io::Result<()> {
    let mut socket = TcpStream::connect(addr).await?;
    socket.write_all(&upload(OVER)[..LIMIT]).await?;
    for _ in 0..8 {
        socket.write_all(b"0").await?;
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Longer than `LingerConfig::idle_timeout`.
async fn silent(addr: SocketAddr) -> io::Result<()> {
    let mut socket = TcpStream::connect(addr).await?;
    socket.write_all(&upload(OVER)[..1000]).await?;
    sleep(Duration::from_secs(7)).await;
    Ok(())
}
