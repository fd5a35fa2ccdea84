//! Random clients, each played to a stock axum server and to the combined mode: every
//! response that stock delivers whole arrives, and every connection that stock keeps is
//! kept.
//!
//! `SCRIPTS` sets the number of scripts, 150 by default. `SEED` draws the same ones again.
#![cfg(feature = "axum")]

mod support;

mod differential {
    pub(crate) mod stock {
        pub(crate) mod play;
        pub(crate) mod script;
    }
}

use std::{
    collections::hash_map::RandomState,
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
    Router,
    body::{Body, Bytes},
    extract::DefaultBodyLimit,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::{StreamExt, stream};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, time::sleep};
use tokio_rustls::rustls::version::TLS13;
use tower_bodyguard::{BodyGuardLayer, Linger};

use differential::stock::{
    play::{Seen, connect, play, play_streams},
    script::{LIMIT, draw, draw_streams},
};
use support::{
    server::Server,
    tls::{Certificate, Connector},
};

/// Scripts that are played at the same time. They wait more than they compute.
const CLIENTS: usize = 16;

/// A difference counts if as many more runs differ, too.
const REPEATS: usize = 3;

/// The length of a long response in bytes: larger than the socket buffers of the client.
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

/// Reads one frame, and drops the rest.
async fn frame(body: Body) -> &'static str {
    let _ = body.into_data_stream().next().await;
    "one frame"
}

/// Drops the body some time after the request came.
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

/// An HTTPS server: hyper above tokio-rustls, with the wrapper beneath TLS if `joined`.
fn tls(certificate: &Certificate, joined: bool) -> Server {
    let acceptor = certificate.acceptor();
    Server::run(move |listener: TcpListener, linger: Linger| async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (acceptor, linger) = (acceptor.clone(), linger.clone());
            tokio::spawn(async move {
                // A client that has gone ends its connection with an error.
                if joined {
                    let (io, service) = linger.join(socket, app());
                    let Ok(io) = acceptor.accept(io).await else {
                        return;
                    };
                    let service = TowerToHyperService::new(service);
                    let builder = Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(io), service).await;
                } else {
                    let Ok(io) = acceptor.accept(socket).await else {
                        return;
                    };
                    let service = TowerToHyperService::new(app());
                    let builder = Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(io), service).await;
                }
            });
        }
    })
}

fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

/// What a script is played over.
#[derive(Clone)]
enum Transport {
    Tcp,
    Tls(Connector),
    Http2,
}

impl Transport {
    /// Returns what the client saw.
    async fn play(&self, seed: u64, number: u64, addr: SocketAddr) -> Seen {
        match self {
            Self::Tcp => play(&draw(seed, number), connect(addr).await).await,
            Self::Tls(connector) => {
                let socket = connector.connect_async(addr).await;
                play(&draw(seed, number), socket).await
            }
            Self::Http2 => play_streams(&draw_streams(seed, number), addr).await,
        }
    }

    /// Returns the script, and whether its connection closes by design.
    fn script(&self, seed: u64, number: u64) -> (Box<dyn Debug + Send>, bool) {
        match self {
            Self::Tcp | Self::Tls(_) => {
                let script = draw(seed, number);
                let closes = script.closes_by_design();
                (Box::new(script), closes)
            }
            Self::Http2 => (Box::new(draw_streams(seed, number)), false),
        }
    }
}

/// Returns what ours did worse, if anything. Only what stock delivers binds ours.
fn difference(closes_by_design: bool, ours: &Seen, stock: &Seen) -> Option<&'static str> {
    let owed = if closes_by_design { 1 } else { usize::MAX };
    let mut both = stock.responses.iter().enumerate().take(owed);
    let lost =
        both.any(|(nth, response)| response.is_some() && ours.responses.get(nth) != Some(response));
    if lost {
        return Some("a response is missing, or another one");
    }
    if ours.write_failed && !stock.write_failed {
        return Some("a write failed");
    }
    if ours.was_reset && !stock.was_reset {
        return Some("a reset at the end");
    }
    None
}

/// Plays all scripts, and returns the differences that do not go away.
fn differences(transport: &Transport, ours: SocketAddr, stock: SocketAddr) -> Vec<String> {
    let seed = number("SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    let scripts = number("SCRIPTS").unwrap_or(150);
    let whole = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let played = stream::iter(0..scripts).map(|number| {
        let (transport, whole) = (transport.clone(), Arc::clone(&whole));
        runtime.spawn(async move {
            let (script, closes) = transport.script(seed, number);
            let mut found = None;
            for _ in 0..=REPEATS {
                let by_stock = transport.play(seed, number, stock).await;
                let by_ours = transport.play(seed, number, ours).await;
                let delivered = by_stock.responses.iter().flatten().count();
                whole.fetch_add(delivered, Ordering::Relaxed);
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
        let played = played.buffer_unordered(CLIENTS);
        let found = played.filter_map(|found| async { found.expect("a script does not panic") });
        found.collect().await
    });
    let whole = whole.load(Ordering::Relaxed);
    println!(
        "SEED={seed}: {scripts} scripts, {whole} responses of stock, {} differ",
        found.len()
    );
    assert!(whole > 0, "stock delivered nothing");
    found
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

#[test]
fn combined_mode_over_tcp_fares_as_stock_does() {
    let (ours, stock) = (Server::joined(app()), Server::plain(app()));
    assert_none(&differences(&Transport::Tcp, ours.addr, stock.addr));
}

#[test]
fn combined_mode_beneath_tls_fares_as_stock_does() {
    let certificate = Certificate::new();
    let (ours, stock) = (tls(&certificate, true), tls(&certificate, false));
    let transport = Transport::Tls(certificate.client(&TLS13));
    assert_none(&differences(&transport, ours.addr, stock.addr));
}

#[test]
fn combined_mode_over_http2_fares_as_stock_does() {
    let (ours, stock) = (Server::joined(app()), Server::plain(app()));
    assert_none(&differences(&Transport::Http2, ours.addr, stock.addr));
}

/// The negative control: the roles are swapped.
#[test]
fn stock_as_ours_over_tcp_differs_from_combined_mode() {
    let (ours, stock) = (Server::plain(app()), Server::joined(app()));
    let found = differences(&Transport::Tcp, ours.addr, stock.addr);
    assert!(!found.is_empty(), "no difference");
}

#[test]
fn stock_as_ours_beneath_tls_differs_from_combined_mode() {
    let certificate = Certificate::new();
    let (ours, stock) = (tls(&certificate, false), tls(&certificate, true));
    let transport = Transport::Tls(certificate.client(&TLS13));
    let found = differences(&transport, ours.addr, stock.addr);
    assert!(!found.is_empty(), "no difference");
}
