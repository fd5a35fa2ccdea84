//! Whole connections: a client's bytes, hyper, and all three parts in between.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use arbitrary::Arbitrary;
use bytes::Bytes;
use futures_util::future::join;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split},
    time::{sleep, timeout},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_bodyguard::{
    BodyGuardLayer, BoxError, Drain, GuardedBody, Limit, Linger, LingerConfig,
    delivery::TrackedBody,
};

use crate::{millis, paused, wire};

#[derive(Arbitrary, Debug)]
pub struct Input {
    limit: Option<u16>,
    requires_length: bool,
    drain: (u16, u16),
    /// Whether the server also speaks HTTP/2.
    is_auto: bool,
    buffer: u16,
    wire: Wire,
    /// The lengths of pieces, and the hundredths of a second after each.
    pieces: Vec<(u16, u8)>,
    reads: Reads,
    half_closes: bool,
}

#[derive(Arbitrary, Debug)]
enum Wire {
    Requests(Vec<Ask>),
    Bytes(Vec<u8>),
    Both(Vec<Ask>, Vec<u8>),
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    AllAlong,
    Afterwards,
    Never,
}

#[derive(Arbitrary, Debug)]
struct Ask {
    method: Method,
    path: Path,
    is_http10: bool,
    field: Field,
    framing: Framing,
    length: u16,
    hides: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Method {
    Post,
    Get,
    Head,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Path {
    Read,
    Ignore,
    Part,
    Hold,
    Large,
    Echo,
    Fail,
    Panic,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Field {
    None,
    Close,
    KeepAlive,
    Expect,
    Upgrade,
}

#[derive(Arbitrary, Clone, Debug)]
enum Framing {
    None,
    Length,
    /// The declared length is wrong by this much.
    Lies(i8),
    Chunked {
        size: u8,
        ends: Ends,
    },
    Both,
    Odd(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Ends {
    Well,
    WithTrailers,
    Never,
    Broken,
}

/// Must never be served, because it is part of a body.
const HIDDEN: &[u8] = b"POST /hidden HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n";

impl Ask {
    fn write(&self, wire: &mut Vec<u8>) {
        let method = ["POST", "GET", "HEAD"][self.method as usize];
        let paths = [
            "/read", "/ignore", "/part", "/hold", "/large", "/echo", "/fail", "/panic",
        ];
        let path = paths[self.path as usize];
        let version = if self.is_http10 { "1.0" } else { "1.1" };
        let mut head = format!("{method} {path} HTTP/{version}\r\nhost: h\r\n");
        head += match self.field {
            Field::None => "",
            Field::Close => "connection: close\r\n",
            Field::KeepAlive => "connection: keep-alive\r\n",
            Field::Expect => "expect: 100-continue\r\n",
            Field::Upgrade => "connection: upgrade\r\nupgrade: h2c\r\n",
        };
        let length = usize::from(self.length);
        let filler = if self.hides { HIDDEN } else { b"." };
        let mut content = filler.repeat(length / filler.len() + 1);
        content.truncate(length);
        let chunked = "transfer-encoding: chunked\r\n";
        head += &match &self.framing {
            Framing::None => String::new(),
            Framing::Length => format!("content-length: {length}\r\n"),
            Framing::Lies(more) => {
                let length = length.saturating_add_signed((*more).into());
                format!("content-length: {length}\r\n")
            }
            Framing::Chunked { .. } => chunked.to_owned(),
            Framing::Both => format!("content-length: {length}\r\n{chunked}"),
            Framing::Odd(choice) => {
                let odd = [
                    "content-length: 1\r\ncontent-length: 1\r\n",
                    "content-length: 1, 1\r\n",
                    "content-length: +1\r\n",
                    "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
                    "transfer-encoding : chunked\r\n",
                    "content-length: 99999999999999999999\r\n",
                ];
                odd[usize::from(*choice) % odd.len()].to_owned()
            }
        };
        wire.extend_from_slice(head.as_bytes());
        wire.extend_from_slice(b"\r\n");
        match &self.framing {
            Framing::None => {}
            Framing::Chunked { size, ends } => write_chunks(&content, *size, *ends, wire),
            Framing::Both => write_chunks(&content, 255, Ends::Well, wire),
            _ => wire.extend_from_slice(&content),
        }
    }
}

fn write_chunks(content: &[u8], size: u8, ends: Ends, wire: &mut Vec<u8>) {
    let extension = if size % 2 == 0 { ";a=\"b\"" } else { "" };
    // hyper limits the extensions of a chunked body.
    for chunk in content.chunks(usize::from(size.max(4)) * 8) {
        wire.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(match ends {
        Ends::Well => b"0\r\n\r\n",
        Ends::WithTrailers => b"0\r\nx-sum: 1\r\n\r\n",
        Ends::Never => b"",
        Ends::Broken => b"0x\r\n\r\n",
    });
}

/// The paths that reached the service, in order.
type Calls = Arc<Mutex<Vec<String>>>;

type Guarded = GuardedBody<TrackedBody<Incoming>>;
type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

async fn handle(request: Request<Guarded>) -> Result<Answer, BoxError> {
    let (head, mut body) = request.into_parts();
    let path = head.uri.path();
    let mut read = None;
    let mut response_body: UnsyncBoxBody<Bytes, BoxError> =
        Empty::new().map_err(|never| match never {}).boxed_unsync();
    match path {
        "/ignore" => drop(body),
        "/part" => {
            // It ignores the limit layer's error, too.
            let _ = body.frame().await;
        }
        "/hold" => {
            tokio::spawn(async move {
                sleep(Duration::from_millis(300)).await;
                drop(body);
            });
        }
        "/large" => {
            static LARGE: [u8; 70_000] = [b'.'; 70_000];
            let large = Full::new(Bytes::from_static(&LARGE));
            response_body = large.map_err(|never| match never {}).boxed_unsync();
        }
        "/echo" => response_body = body.boxed_unsync(),
        "/fail" => return Err("the handler fails".into()),
        // Skips the panic hook, which belongs to the fuzzer.
        "/panic" => std::panic::resume_unwind(Box::new("the handler panics")),
        _ => {
            let content = body.collect().await?.to_bytes();
            read = Some(content.len());
        }
    }
    let mut response = Response::new(response_body);
    let headers = response.headers_mut();
    headers.insert("x-path", HeaderValue::from_str(path)?);
    if let Some(read) = read {
        headers.insert("x-read", read.into());
    }
    Ok(response)
}

pub fn run(input: Input) {
    paused(drive(&input));
}

async fn drive(input: &Input) {
    let mut bytes = Vec::new();
    let (asks, behind) = match &input.wire {
        Wire::Requests(asks) => (&asks[..], &[][..]),
        Wire::Bytes(bytes) => (&[][..], &bytes[..]),
        Wire::Both(asks, bytes) => (&asks[..], &bytes[..]),
    };
    for ask in asks.iter().take(6) {
        ask.write(&mut bytes);
    }
    bytes.extend_from_slice(behind);

    let (drain_bytes, drain_total) = input.drain;
    let drain = Drain::new()
        .max_bytes(u64::from(drain_bytes))
        .timeout(millis(drain_total));
    let linger = Linger::new(LingerConfig::new().drain(drain));
    let calls = Calls::default();
    let (near, far) = duplex(usize::from(input.buffer).max(500));
    let server = tokio::spawn(serve(near, &linger, input, &calls));
    let (sent, received) = client(input, far, &bytes).await;

    // Nothing is left behind, and a panic of the service reaches only the server.
    let server = timeout(Duration::from_secs(200), server).await;
    let server = server.expect("the connection has ended");
    let calls = std::mem::take(&mut *calls.lock().expect("no panic within"));
    if let Err(error) = server {
        assert!(error.is_panic() && calls.iter().any(|path| path == "/panic"));
    }
    linger.shutdown(Duration::from_secs(700)).await;
    sleep(millis(drain_total) + Duration::from_secs(60)).await;
    let stats = linger.stats();
    assert_eq!((stats.lingering(), stats.reading), (0, 0));

    let is_http2 = input.is_auto && bytes.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    if !is_http2 {
        check(input, &bytes, &calls, sent, &received);
    }
}

/// Serves with all three parts around the handler.
fn serve(
    socket: DuplexStream,
    linger: &Linger,
    input: &Input,
    calls: &Calls,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let mut guard = BodyGuardLayer::new(
        input
            .limit
            .map_or(Limit::unlimited(), |limit| Limit::max(limit.into())),
    );
    if input.requires_length {
        guard = guard.require_content_length();
    }
    let calls = Arc::clone(calls);
    let service = guard.layer(service_fn(handle));
    let service = service.map_request(move |request: Request<TrackedBody<Incoming>>| {
        let path = request.uri().path().to_owned();
        calls.lock().expect("no panic within").push(path);
        request
    });
    let (io, service) = linger.wrap(socket, service);
    let is_auto = input.is_auto;
    Box::pin(async move {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        if !is_auto {
            builder = builder.http1_only();
        }
        builder.http1().timer(TokioTimer::new());
        let service = TowerToHyperService::new(service);
        // The client or the handler caused the error.
        let _ = builder.serve_connection(TokioIo::new(io), service).await;
    })
}

/// Returns whether everything could be sent, and the received bytes.
async fn client(input: &Input, socket: DuplexStream, bytes: &[u8]) -> (bool, Vec<u8>) {
    let (mut reading, mut writing) = split(socket);
    let write = async {
        let mut left = bytes;
        let mut pieces = input.pieces.iter().take(32);
        while !left.is_empty() {
            let (length, pause) = pieces.next().copied().unwrap_or((u16::MAX, 0));
            let (piece, behind) = left.split_at(left.len().min(usize::from(length).max(1)));
            left = behind;
            let sent = timeout(Duration::from_secs(60), writing.write_all(piece)).await;
            if !matches!(sent, Ok(Ok(()))) {
                return false;
            }
            sleep(millis(10u8) * pause.into()).await;
        }
        !input.half_closes || writing.shutdown().await.is_ok()
    };
    let read = async {
        let mut received = Vec::new();
        let reads = reading.read_to_end(&mut received);
        let _ = timeout(Duration::from_secs(40), reads).await;
        received
    };
    match input.reads {
        Reads::AllAlong => join(write, read).await,
        Reads::Afterwards => (write.await, read.await),
        Reads::Never => (write.await, Vec::new()),
    }
}

fn check(input: &Input, bytes: &[u8], calls: &[String], sent: bool, received: &[u8]) {
    let (asked, is_all) = wire::requests(bytes);
    let (responses, is_well_formed) = wire::answers(received, &asked);
    // hyper refuses bytes that are not a request before it writes pending responses.
    assert!(is_well_formed || !is_all, "{responses:?}");
    let limit = input.limit.map_or(u64::MAX, u64::from);

    // Only the requested paths are served, in that order.
    assert!(calls.len() <= asked.len(), "{calls:?}");
    for (call, asked) in calls.iter().zip(&asked) {
        let path = asked.path.split('?').next();
        assert!(
            path == Some(call) || !asked.path.starts_with('/'),
            "{calls:?}"
        );
    }
    // One more may be hyper's own response to bytes that are not a request.
    assert!(responses.len() <= calls.len() + 1);
    for (place, response) in responses.iter().enumerate() {
        let (Some(asked), true) = (asked.get(place), place < calls.len()) else {
            let by_hyper = (400..500).contains(&response.status) && response.closes;
            assert!(by_hyper, "{calls:?} {asked:?} {responses:?}");
            continue;
        };
        if response.closes && response.is_whole {
            assert_eq!(calls.len(), place + 1, "served after the last response");
        }
        let over = asked.declared.is_some_and(|length| length > limit);
        assert!(!over || response.status == 413);
        match (&response.path, response.status) {
            (Some(path), _) => assert_eq!(path, &calls[place]),
            (None, 413) => assert!(over || asked.came > limit),
            (None, 411) => assert!(input.requires_length && asked.declared.is_none()),
            (None, status) => panic!("{status} from no known part"),
        }
        if let Some(read) = response.read {
            assert!(read == asked.came && asked.is_whole && read <= limit);
        }
    }

    // If nothing interferes, every request that may get a response gets one.
    let is_calm = input.pieces.iter().all(|(_, pause)| *pause == 0)
        && !input.half_closes
        && calls.iter().all(|path| !matches!(&path[..], "/fail" | "/panic" | "/echo"))
        && asked.iter().all(|asked| asked.is_http11 && !asked.upgrades)
        // If the body is held after the response, it is too late to announce a close.
        && !asked.iter().any(|asked| asked.path == "/hold" && !asked.is_cheap())
        && is_all;
    let drains = bytes.len() as u64 <= input.drain.0.into() && input.drain.1 > 1000;
    if is_calm && input.reads == Reads::AllAlong && drains {
        assert!(responses.iter().all(|response| response.is_whole));
        let ended = responses.last().is_some_and(|response| response.closes);
        assert!(
            ended || responses.len() == asked.len(),
            "a response is missing: {responses:?}"
        );
    }
    // A client that sends everything first reads any response.
    if is_calm && input.reads == Reads::Afterwards && asked.len() == 1 {
        assert!(sent, "a write has failed");
        assert!(
            responses.first().is_some_and(|response| response.is_whole),
            "no response"
        );
    }
}
