//! A file upload form whose refusals arrive.
//!
//! ```text
//! cargo run --example upload_form --features axum,metrics -- --demo
//! ```
//!
//! Open <http://127.0.0.1:3000>, choose a file above 4 MiB, check "Send it anyway", and upload it.
//! Then do the same with `--plain`, which serves the same routes without this crate, or with
//! `--tls`, over which browsers use HTTP/2. With `--tls --http3` they switch to HTTP/3.
//!
//! - `app.rs`: routes, handlers and layers; the file to copy
//! - `store.rs`: files on disk, kept only if their whole request succeeds
//! - `page.rs`, `page/`: the responses for people and scripts
//! - `auth.rs`: who may send
//! - `problem.rs`: errors besides the limit
//! - `plain.rs`: the same app without the limit layer and the socket wrapper
//! - `metrics.rs`: metrics for Prometheus
//! - `serve.rs`: the listeners: TCP, TLS, a Unix socket
//! - `tls.rs`: a custom accept loop for HTTPS
//! - `http3.rs`: the UDP port for HTTP/3, and how browsers find it
//! - `flags.rs`, and `signals.rs` in `../support/`: the command line and shutdown signals

mod app;
mod auth;
mod flags;
mod http3;
mod metrics;
mod page;
mod plain;
mod problem;
mod serve;
#[path = "../support/signals.rs"]
mod signals;
mod store;
mod tls;

use std::error::Error;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower_bodyguard::{Linger, LingerConfig, Observer, StreamLinger};
use tracing_subscriber::EnvFilter;

use crate::app::Config;
use crate::flags::Flags;
use crate::store::Folder;

/// How long unfinished file writes may delay the exit after `--grace`.
const LAST_WRITES: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let flags = Flags::parse();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .init();
    match run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("upload_form: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new().map_err(|e| format!("cannot start the runtime: {e}"))?;
    let stop = {
        let _entered = runtime.enter();
        signals::stop().map_err(|e| format!("cannot catch signals: {e}"))?
    };
    let folder = Folder::open(flags.dir.clone())
        .map_err(|e| format!("cannot make a temporary folder: {e}; name one with --dir"))?;
    let result = runtime.block_on(serve(flags, &folder, stop));
    // The aborted uploads remove their files. Only then is the folder removed.
    runtime.shutdown_timeout(LAST_WRITES);
    result
}

async fn serve(
    flags: Flags,
    folder: &Folder,
    stop: CancellationToken,
) -> Result<(), Box<dyn Error>> {
    let config = Config {
        limit: flags.limit,
        status: flags.status,
        store: folder.store(),
        min_rate: flags.min_rate,
        token: flags.token.clone(),
        demo: flags.demo,
    };
    // The recorder is installed before the observer describes the metrics to it.
    let recorder = metrics::install().map_err(|e| format!("cannot record metrics: {e}"))?;
    let observer = Observer::metrics();
    let linger = Linger::new(
        LingerConfig::new()
            .observer(observer.clone())
            .idle_timeout(*flags.linger_idle)
            .timeout(*flags.linger_total)
            .max_bytes(flags.linger_bytes.0)
            .stream_linger(
                StreamLinger::new()
                    .timeout(*flags.stream_linger)
                    .idle_timeout(*flags.stream_linger / 2),
            )
            .max_connections(flags.linger_max)
            .shutdown_timeout(*flags.grace),
    );
    let app = match flags.plain {
        true => plain::app(&config)?,
        false => app::app(&config, observer, metrics::routes(recorder, &linger)),
    };
    let served = async {
        serve::serve(&flags, app, &linger, &stop).await?;
        // Refused clients may still be sending, and have not read the reason yet.
        linger.closed().await;
        Ok(())
    };
    until(served, &stop, *flags.grace).await?;
    let ended = linger.shutdown(Duration::ZERO).await;
    let (delivered, cut) = (ended.delivered, ended.cut);
    tracing::info!(delivered, cut, "refused clients at the end");
    Ok(())
}

/// Serves until every connection has ended after `stop`, or until `grace` is over.
async fn until(
    server: impl Future<Output = Result<(), Box<dyn Error>>>,
    stop: &CancellationToken,
    grace: Duration,
) -> Result<(), Box<dyn Error>> {
    let overtime = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        result = server => result,
        () = overtime => {
            tracing::warn!("aborting the requests that still run after {grace:?}");
            Ok(())
        }
    }
}
