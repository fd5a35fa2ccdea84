//! Our own server as a process. Unlike the form it has a long response, reports its number of
//! tasks, and can exhaust its file descriptors.

use std::{
    fs::File,
    io::{self, Write},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::StatusCode,
    routing::{get, post},
    serve::ListenerExt,
};
use clap::Parser;
use futures_util::StreamExt;
use testkit::LARGE;
use tokio::{net::TcpListener, runtime::Handle};
use tower_bodyguard::{BodyGuardLayer, Drain, Linger, LingerConfig, StreamLinger};

use super::states::LIMIT;

#[derive(Parser)]
struct Flags {
    #[arg(long, default_value = "127.0.0.1:0")]
    addr: SocketAddr,
    /// The value of each timeout
    #[arg(long)]
    bounds: humantime::Duration,
    /// Uploads below 1000 bytes per second are refused after this time
    #[arg(long)]
    slow_after: humantime::Duration,
    /// Use a listener whose errors only axum sees
    #[arg(long)]
    tapped: bool,
}

pub(crate) fn run() {
    let runtime = tokio::runtime::Runtime::new().expect("it starts");
    runtime.block_on(serve(&Flags::parse()));
}

#[derive(Clone)]
struct Shared {
    linger: Linger,
    /// File descriptors that the crate cannot release.
    held: Arc<Mutex<Vec<File>>>,
    long: Bytes,
}

async fn serve(flags: &Flags) {
    let bound = *flags.bounds;
    let linger = Linger::new(
        LingerConfig::new()
            .max_connections(1000)
            .idle_timeout(bound)
            .timeout(bound)
            .extended_timeout(0, None)
            .drain(Drain::new().timeout(bound))
            .stream_linger(StreamLinger::new().timeout(bound).idle_timeout(bound)),
    );
    let guard = BodyGuardLayer::new(LIMIT).min_rate(1000, *flags.slow_after);
    let shared = Shared {
        linger: linger.clone(),
        held: Arc::default(),
        long: vec![0; LARGE as usize].into(),
    };
    let app = Router::new()
        .route("/", get(|| async { "here" }))
        .route("/raw", post(count))
        .route("/metrics", get(metrics))
        .route("/hold", get(hold))
        .route("/release", get(release))
        .layer(guard)
        // This route is outside of the limit layer, so no upload is refused.
        .route("/long", post(long))
        .with_state(shared);
    let listener = TcpListener::bind(flags.addr).await.expect("it is free");
    let addr = listener.local_addr().expect("it is bound");
    println!("listening on http://{addr}");
    io::stdout().flush().expect("stdout is open");
    match flags.tapped {
        true => {
            tower_bodyguard::axum::serve(listener.tap_io(|_| {}), app)
                .with_linger(&linger)
                .await
        }
        false => {
            tower_bodyguard::axum::serve(listener, app)
                .with_linger(&linger)
                .await
        }
    }
    .expect("it never ends");
}

async fn count(body: Body) -> Result<String, StatusCode> {
    let mut frames = body.into_data_stream();
    let mut sum = 0;
    while let Some(frame) = frames.next().await {
        sum += frame.map_err(|_| StatusCode::BAD_REQUEST)?.len();
    }
    Ok(sum.to_string())
}

/// Responds with more than the socket's buffers hold, without reading.
async fn long(State(shared): State<Shared>) -> (StatusCode, Bytes) {
    (StatusCode::UNAUTHORIZED, shared.long)
}

/// Uses the metric names of the form.
async fn metrics(State(shared): State<Shared>) -> String {
    let stats = shared.linger.stats();
    let tasks = Handle::current().metrics().num_alive_tasks();
    let (lingering, reading) = (stats.lingering(), stats.reading);
    format!(
        "bodyguard_lingering{{linger=\"form\"}} {lingering}\n\
         bodyguard_draining{{linger=\"form\"}} {reading}\n\
         tasks {tasks}\n"
    )
}

/// Takes all remaining file descriptors.
async fn hold(State(shared): State<Shared>) -> String {
    let mut held = shared.held.lock().unwrap();
    let left = std::iter::from_fn(|| File::open("/dev/null").ok());
    held.extend(left);
    held.len().to_string()
}

async fn release(State(shared): State<Shared>) {
    shared.held.lock().unwrap().clear();
}
