//! Plays random clients to a stock axum server and to the combined mode. Every response that stock
//! delivers whole must arrive, and every connection that stock keeps must be kept. If stock
//! responds while its client waits with a part of its body unsent, the combined mode must do so,
//! too.
//!
//! `SCRIPTS` sets the number of scripts, and `CLIENTS` how many are played concurrently. `SEED`
//! draws the same scripts again, and `SCRIPT` plays a single one of them.
#![cfg(feature = "axum")]

mod play;
mod script;

use std::{
    collections::hash_map::RandomState,
    convert::Infallible,
    env,
    fmt::Debug,
    hash::BuildHasher,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    BoxError, Router,
    body::{Body, Bytes, HttpBody, to_bytes},
    extract::DefaultBodyLimit,
    http::{Request, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::{StreamExt, stream};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_rustls::rustls::version::TLS13;
use tower::Service;
use tower_bodyguard::{BodyGuardLayer, Drain, Linger, LingerConfig, StreamLinger};

use testkit::{
    client::PATIENCE,
    streams::{Delivered, Patience, SILENCE, play_streams},
    tls::{Certificate, Connector},
};

use self::{
    play::{Seen, connect, play},
    script::{Kind, LIMIT, draw, draw_streams},
};
use crate::server::Server;

/// The number of scripts that are played concurrently by default. They mostly wait.
const CLIENTS: u64 = 16;

/// A difference counts if this many further runs differ, too.
const REPEATS: usize = 3;

/// Enough differences for a report.
const MANY: usize = 10;

/// Longer than any test takes.
const FOREVER: Duration = Duration::from_secs(3600);

/// The length of a long response in bytes: larger than the client's socket buffers.
const LONG: usize = 3 << 20;

fn app() -> Router {
    let refused = Router::new()
        .route("/refused", post(all))
        .layer(BodyGuardLayer::new(LIMIT as u64));
    Router::new()
        .route("/all", post(all))
        .route("/unauthorized", post(|| async { StatusCode::UNAUTHORIZED }))
        .route("/ok", post(|| async { "ok" }))
        .route("/frame", post(frame))
        .route("/hold", post(hold))
        .route("/long", post(|| async { long() }))
        .route("/long_read", post(|_: Bytes| async { long() }))
        .merge(refused)
        .layer(DefaultBodyLimit::disable())
}

async fn all(body: Bytes) -> String {
    body.len().to_string()
}

/// Reads one frame and drops the remaining body.
async fn frame(body: Body) -> &'static str {
    let _ = body.into_data_stream().next().await;
    "one frame"
}

/// Drops the body some time after the request arrived.
async fn hold(body: Body) -> &'static str {
    sleep(Duration::from_millis(5)).await;
    drop(body);
    "held"
}

fn long() -> Response {
    const PART: usize = 64 * 1024;
    let parts = stream::iter((0..LONG / PART).map(|_| Ok::<_, std::io::Error>(vec![b'n'; PART])));
    let length = [(header::CONTENT_LENGTH, LONG)];
    (length, Body::from_stream(parts)).into_response()
}

/// Returns a mode that never gives up a body that it reads. A response that waits for that body
/// waits until the client has sent it.
fn patient() -> Linger {
    let drain = Drain::new().timeout(FOREVER);
    let streams = StreamLinger::new().timeout(FOREVER).idle_timeout(FOREVER);
    Linger::new(LingerConfig::new().drain(drain).stream_linger(streams))
}

/// Runs the app without this crate.
fn stock(app: Router, certificate: Option<&Certificate>) -> Server {
    match certificate {
        None => Server::plain(app),
        Some(certificate) => tls(certificate, Linger::default(), move |_, socket| {
            (socket, app.clone())
        }),
    }
}

/// Runs the app in the combined mode.
fn combined(app: Router, certificate: Option<&Certificate>, linger: Linger) -> Server {
    match certificate {
        None => Server::run_with(linger, |listener, linger| async move {
            tower_bodyguard::axum::serve(listener, app)
                .with_linger(&linger)
                .await
                .unwrap();
        }),
        Some(certificate) => tls(certificate, linger, move |linger, socket| {
            linger.wrap(socket, app.clone())
        }),
    }
}

/// Runs an HTTPS server: hyper over tokio-rustls, with the socket and service that `connect`
/// returns.
fn tls<I, S, B>(
    certificate: &Certificate,
    linger: Linger,
    connect: impl Fn(&Linger, TcpStream) -> (I, S) + Send + 'static,
) -> Server
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = http::Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let acceptor = certificate.acceptor();
    Server::run_with(linger, move |listener: TcpListener, linger| async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (io, service) = connect(&linger, socket);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(io) = acceptor.accept(io).await else {
                    return;
                };
                let service = TowerToHyperService::new(service);
                let builder = Builder::new(TokioExecutor::new());
                // The connection fails if its client has left.
                let _ = builder.serve_connection(TokioIo::new(io), service).await;
            });
        }
    })
}

fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// The HTTP version and the transport that a script is played over.
#[derive(Clone)]
struct Transport {
    version: Version,
    tls: Option<Connector>,
    kind: Kind,
}

impl Transport {
    fn new(version: Version, certificate: Option<&Certificate>, kind: Kind) -> Self {
        let tls = certificate.map(|certificate| certificate.client(&TLS13));
        Self { version, tls, kind }
    }

    /// Plays the script and returns what the client saw.
    async fn play(&self, seed: u64, number: u64, addr: SocketAddr, patience: &Patience) -> Seen {
        match &self.tls {
            None => self.over(seed, number, connect(addr).await, patience).await,
            Some(connector) => {
                let socket = connector.connect_async(addr).await;
                self.over(seed, number, socket, patience).await
            }
        }
    }

    async fn over<T>(&self, seed: u64, number: u64, socket: T, patience: &Patience) -> Seen
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self.version {
            Version::Http1 => play(&draw(self.kind, seed, number), socket, patience).await,
            Version::Http2 => {
                let streams = draw_streams(self.kind, seed, number);
                Seen {
                    responses: play_streams(&streams, None, socket, patience).await,
                    write_failed: false,
                    was_reset: false,
                }
            }
        }
    }

    /// Returns the script, and whether its connection closes by design.
    fn script(&self, seed: u64, number: u64) -> (Box<dyn Debug + Send>, bool) {
        match self.version {
            Version::Http1 => {
                let script = draw(self.kind, seed, number);
                let closes = script.closes_by_design();
                (Box::new(script), closes)
            }
            Version::Http2 => (Box::new(draw_streams(self.kind, seed, number)), false),
        }
    }
}

const LATER: &str = "a response waits for the second half of the body";

/// Returns what ours did worse, if anything. Ours has to match only what stock delivers.
fn difference(closes_by_design: bool, ours: &Seen, stock: &Seen) -> Option<&'static str> {
    let owed = if closes_by_design { 1 } else { usize::MAX };
    let mut both = stock.responses.iter().enumerate().take(owed);
    let worse = both.find_map(|(nth, response)| {
        let stocks = response.as_ref()?;
        let ours = ours.responses.get(nth).and_then(Option::as_ref);
        let same = |ours: &&Delivered| (ours.status, ours.length) == (stocks.status, stocks.length);
        match ours.filter(same) {
            None => Some("a response is missing, or another one"),
            Some(ours) if stocks.early && !ours.early => Some(LATER),
            Some(_) => None,
        }
    });
    if worse.is_some() {
        return worse;
    }
    if ours.write_failed && !stock.write_failed {
        return Some("a write failed");
    }
    if ours.was_reset && !stock.was_reset {
        return Some("a reset at the end");
    }
    None
}

/// So many differences are enough for a negative control.
const FEW: usize = 8;

/// Plays scripts until `most` of them differ, and returns the differences that repeat. `owed` is
/// how long a client waits for a response that stock has delivered.
fn differences(
    transport: &Transport,
    ours: &Server,
    stock: &Server,
    owed: Duration,
    most: usize,
) -> Vec<String> {
    let seed = number("SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    let scripts = number("SCRIPTS").unwrap_or(match transport.kind {
        // The negative controls stop at the first few differences.
        _ if most <= FEW => 1000,
        Kind::All => 150,
        // If stock does not respond, these clients wait until a timeout.
        Kind::Waiting => 50,
    });
    let numbers = match number("SCRIPT") {
        Some(script) => script..script + 1,
        None => 0..scripts,
    };
    let tally = Arc::<Tally>::default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let played = stream::iter(numbers).map(|number| {
        let (ours, stock) = (ours.addr, stock.addr);
        let (transport, tally) = (transport.clone(), Arc::clone(&tally));
        runtime.spawn(async move {
            let (script, closes) = transport.script(seed, number);
            let mut found = None;
            for _ in 0..=REPEATS {
                let by_stock = transport.play(seed, number, stock, &Patience::SHORT).await;
                let patience = Patience::for_what(owed, &by_stock.responses);
                let by_ours = transport.play(seed, number, ours, &patience).await;
                let delivered = by_stock.responses.iter().flatten();
                tally
                    .whole
                    .fetch_add(delivered.clone().count(), Ordering::Relaxed);
                let early = delivered.filter(|response| response.early).count();
                tally.early.fetch_add(early, Ordering::Relaxed);
                let what = difference(closes, &by_ours, &by_stock)?;
                found = Some(format!(
                    "{what}\nSEED={seed}, script {number}: {script:?}\nours: {by_ours:?}\n\
                     stock: {by_stock:?}"
                ));
            }
            found
        })
    });
    let found: Vec<_> = runtime.block_on(async {
        let clients = number("CLIENTS").unwrap_or(CLIENTS);
        let played = played.buffer_unordered(clients as usize);
        let found = played.filter_map(|found| async { found.expect("a script does not panic") });
        found.take(most).collect().await
    });
    let whole = tally.whole.load(Ordering::Relaxed);
    let early = tally.early.load(Ordering::Relaxed);
    println!(
        "{:?} {:?}{}: SEED={seed}, {scripts} scripts, {whole} responses of stock, {early} of them \
         while the client waited, {} differ",
        transport.kind,
        transport.version,
        if transport.tls.is_some() {
            " over TLS"
        } else {
            ""
        },
        found.len()
    );
    assert!(whole > 0, "stock delivered nothing");
    if transport.kind == Kind::Waiting {
        assert!(early > 0, "stock delivered nothing while a client waited");
    }
    found
}

/// Counts the responses of stock.
#[derive(Default)]
struct Tally {
    whole: AtomicUsize,
    early: AtomicUsize,
}

#[track_caller]
fn assert_none(found: &[String]) {
    assert!(
        found.is_empty(),
        "{} differ:\n{}",
        found.len(),
        found.join("\n\n")
    );
}

/// Plays to the combined mode and to stock, and expects no difference.
#[track_caller]
fn assert_fares_as_stock(version: Version, certificate: Option<&Certificate>) {
    let ours = combined(app(), certificate, Linger::default());
    let stock = stock(app(), certificate);
    let transport = Transport::new(version, certificate, Kind::All);
    assert_none(&differences(&transport, &ours, &stock, PATIENCE, MANY));
}

/// Negative control: plays with the roles swapped, and expects a difference.
#[track_caller]
fn assert_stock_fares_worse(version: Version, certificate: Option<&Certificate>) {
    let ours = stock(app(), certificate);
    let stock = combined(app(), certificate, Linger::default());
    let transport = Transport::new(version, certificate, Kind::All);
    let found = differences(&transport, &ours, &stock, SILENCE, 1);
    assert!(!found.is_empty(), "no difference");
}

/// Plays clients that each wait for the response before they send the second half of the body.
#[track_caller]
fn assert_responds_as_early_as_stock(version: Version, certificate: Option<&Certificate>) {
    let ours = combined(app(), certificate, patient());
    let stock = stock(app(), certificate);
    let transport = Transport::new(version, certificate, Kind::Waiting);
    assert_none(&differences(&transport, &ours, &stock, PATIENCE, MANY));
}

/// Negative control: plays to a server that reads the whole body before its handler responds.
#[track_caller]
fn assert_held_back_is_later(version: Version, certificate: Option<&Certificate>) {
    let ours = stock(app().layer(from_fn(read_first)), certificate);
    let stock = stock(app(), certificate);
    let transport = Transport::new(version, certificate, Kind::Waiting);
    // The first difference may be of another kind: a client that waits in vain gives up.
    let found = differences(&transport, &ours, &stock, SILENCE, FEW);
    let later = |found: &String| found.starts_with(LATER);
    assert!(found.iter().any(later), "no response is later: {found:?}");
}

async fn read_first(request: Request<Body>, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match to_bytes(body, usize::MAX).await {
        Ok(body) => next.run(Request::from_parts(parts, body.into())).await,
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// Defines the four tests for one HTTP version, with or without TLS.
macro_rules! compare {
    ($over:ident, $version:ident, $certificate:expr) => {
        mod $over {
            use super::*;

            #[test]
            fn combined_mode_fares_as_stock_does() {
                assert_fares_as_stock(Version::$version, $certificate);
            }

            #[test]
            fn stock_as_ours_differs_from_combined_mode() {
                assert_stock_fares_worse(Version::$version, $certificate);
            }

            #[test]
            fn combined_mode_responds_while_its_client_waits_as_stock_does() {
                assert_responds_as_early_as_stock(Version::$version, $certificate);
            }

            #[test]
            fn response_held_back_until_the_body_is_read_differs_from_stock() {
                assert_held_back_is_later(Version::$version, $certificate);
            }
        }
    };
}

compare!(http1, Http1, None);
compare!(http1_over_tls, Http1, Some(&Certificate::new()));
compare!(http2, Http2, None);
compare!(http2_over_tls, Http2, Some(&Certificate::new()));
