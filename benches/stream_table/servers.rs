//! The rows: servers with an early response, and how each treats the remaining body.

use std::{convert::Infallible, error::Error, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Request},
    http::{Response, StatusCode},
    routing::{get, post},
};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    time::sleep,
};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tower::Service;
use tower_bodyguard::{BodyGuardLayer, Linger, LingerConfig, MIB, StreamLinger};
use tower_http::limit::RequestBodyLimitLayer;

use super::programs::{Kind, Running};
use crate::tls::Tls;

const LIMIT: u64 = 4 * MIB;

/// curl 7.88 needs the reset to come later than the response, in a separate segment.
const HOLD: Duration = Duration::from_millis(20);

/// For a client that cannot stop sending.
const PATIENT: Duration = Duration::from_secs(20);

/// A running server. A server in the runtime runs until the runtime ends.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    _process: Option<Running>,
}

type Start = Box<dyn FnOnce(&Runtime) -> Option<Server>>;

/// Returns each server with its name. A start returns `None` if the program is not installed.
pub(crate) fn all() -> Vec<(String, Start)> {
    let patient = StreamLinger::new().timeout(PATIENT);
    vec![
        row("drops the body, reset at once: axum, tower-http's limit", {
            |runtime| bare(runtime, stock())
        }),
        row("holds it unread for 20 ms, then drops", |runtime| {
            bare(runtime, early(Rest::Held))
        }),
        row("reads 4 MiB, then drops", |runtime| {
            bare(runtime, early(Rest::ReadTo(LIMIT)))
        }),
        row("reads it all", |runtime| {
            bare(runtime, early(Rest::ReadTo(u64::MAX)))
        }),
        row("**this crate**", |runtime| {
            combined(runtime, StreamLinger::new())
        }),
        row(
            "**this crate**, `StreamLinger::timeout` 20 s",
            move |runtime| combined(runtime, patient),
        ),
        program(Kind::Nginx),
        program(Kind::Caddy),
    ]
}

fn row(name: &str, start: impl FnOnce(&Runtime) -> Server + 'static) -> (String, Start) {
    (name.to_owned(), Box::new(|runtime| Some(start(runtime))))
}

fn program(kind: Kind) -> (String, Start) {
    let start = move |_: &Runtime| {
        Running::start(kind).map(|process| Server {
            addr: process.addr,
            _process: Some(process),
        })
    };
    (kind.title(), Box::new(start))
}

/// The treatment of a body after its response.
#[derive(Clone, Copy)]
enum Rest {
    Held,
    ReadTo(u64),
}

impl Rest {
    async fn treat(self, body: Body) {
        match self {
            Self::Held => sleep(HOLD).await,
            Self::ReadTo(most) => {
                let mut read = 0;
                let mut frames = body.into_data_stream();
                while let Some(Ok(frame)) = frames.next().await {
                    read += frame.len() as u64;
                    if read >= most {
                        return;
                    }
                }
            }
        }
    }
}

/// Returns an app that responds before it reads, without this crate.
fn early(rest: Rest) -> Router {
    let respond = move |body: Body| async move {
        tokio::spawn(rest.treat(body));
        (StatusCode::PAYLOAD_TOO_LARGE, "Content Too Large\n")
    };
    pages().route("/raw", post(respond))
}

/// Returns an app with the limit that axum's users have today.
fn stock() -> Router {
    let limit = usize::try_from(LIMIT).expect("it is small");
    counting().layer(RequestBodyLimitLayer::new(limit))
}

fn counting() -> Router {
    let count = |body: Bytes| async move { body.len().to_string() };
    let count = post(count).layer(DefaultBodyLimit::disable());
    pages().route("/raw", count)
}

/// Returns the page that a browser opens first.
fn pages() -> Router {
    Router::new().route("/", get(async || "Send a file."))
}

fn bare(runtime: &Runtime, app: Router) -> Server {
    serve(runtime, move |socket| (socket, app.clone()))
}

fn combined(runtime: &Runtime, streams: StreamLinger) -> Server {
    let app = counting().layer(BodyGuardLayer::new(LIMIT));
    let linger = Linger::new(LingerConfig::new().stream_linger(streams));
    serve(runtime, move |socket| linger.wrap(socket, app.clone()))
}

fn serve<I, S, B>(
    runtime: &Runtime,
    connect: impl Fn(TcpStream) -> (I, S) + Send + Sync + 'static,
) -> Server
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
    let listener = listener.expect("there is a free port");
    let addr = listener.local_addr().expect("it is bound");
    let tls = Tls::self_signed(addr.ip()).expect("an address is a name");
    runtime.spawn(async move {
        tls.serve(listener, &CancellationToken::new(), connect)
            .await;
    });
    Server {
        addr,
        _process: None,
    }
}
