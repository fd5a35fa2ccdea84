//! A gRPC upload with a limit for each call, whose refusals arrive.
//!
//! ```text
//! cargo run --example grpc_upload --features tonic -- --limit 4MiB
//! cargo run --example grpc_upload --features tonic -- --client --size 20MB
//! ```
//!
//! The client receives `RESOURCE_EXHAUSTED` and the reason, and its connection stays open. Scripts in
//! browsers can call it, too, by gRPC-Web. With `--plain`, the service checks the limit itself, and
//! tonic serves it without this crate.
//!
//! The limit applies to a whole call, all messages together. tonic's own limit,
//! `max_decoding_message_size`, applies to each message, and its default is 4 MiB. A stream of any
//! length passes tonic's limit, but not this one.
//!
//! - `upload.rs`: the service
//! - `client.rs`: its client

mod client;
#[path = "../support/signals.rs"]
mod signals;
mod upload;

use std::error::Error;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use http::HeaderName;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};
use tonic_web::GrpcWebLayer;
use tower_bodyguard::{BodyGuardLayer, Linger, LingerConfig};
use tower_http::cors::CorsLayer;

use crate::upload::Upload;

/// How long calls may run after ctrl-c or SIGTERM.
const GRACE: Duration = Duration::from_secs(8);

/// A gRPC upload with a limit, and its client.
#[derive(Debug, Parser)]
#[command(name = "grpc_upload")]
struct Flags {
    /// The address to listen on, or with --client the server to call; port 0 listens on any free
    /// port
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:50051")]
    addr: SocketAddr,

    /// The limit of a call, in bytes, or with a unit: 500k, 4MiB, 1GB
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = size)]
    limit: u64,

    /// For comparison: serve without this crate, with the limit in the service
    #[arg(long)]
    plain: bool,

    /// Run the client: make one call and print the result
    #[arg(long)]
    client: bool,

    /// How much the client sends
    #[arg(long, value_name = "SIZE", default_value = "20MB", value_parser = size, requires = "client")]
    size: u64,
}

fn size(s: &str) -> Result<u64, String> {
    parse_size::parse_size(s)
        .map_err(|e| format!("{e}; give a number of bytes, or one with a unit, as in 500k or 4MiB"))
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    let result = if flags.client {
        call(&flags).await
    } else {
        serve(&flags).await
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("grpc_upload: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn call(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let url = format!("http://{}", flags.addr);
    let total = client::put(url, flags.size)
        .await
        .map_err(|status| format!("{:?}: {}", status.code(), status.message()))?;
    println!("{total} bytes");
    Ok(())
}

async fn serve(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let stop = signals::stop().map_err(|e| format!("cannot catch signals: {e}"))?;
    let tcp = TcpIncoming::bind(flags.addr).map_err(|e| {
        format!(
            "cannot listen on {}: {e}; choose another --addr",
            flags.addr
        )
    })?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on http://{}", tcp.local_addr()?)?;
    stdout.flush()?;

    if flags.plain {
        let limit = Some(flags.limit);
        return serve_plainly(tcp, Upload { limit }, &stop).await;
    }
    let linger = Linger::new(LingerConfig::new().shutdown_timeout(GRACE));
    let stopped = linger.on(stop.clone().cancelled_owned());
    let server = Server::builder()
        .accept_http1(true)
        .layer(linger.delivery_layer())
        .layer(cors())
        .layer(BodyGuardLayer::new(flags.limit))
        .layer(GrpcWebLayer::new())
        .add_service(Upload { limit: None })
        .serve_with_incoming_shutdown(linger.incoming(tcp), stopped);
    until(server, &stop).await?;
    // Refused clients may still have to read their response.
    linger.shutdown(GRACE).await;
    Ok(())
}

async fn serve_plainly(
    tcp: TcpIncoming,
    upload: Upload,
    stop: &CancellationToken,
) -> Result<(), Box<dyn Error>> {
    let server = Server::builder()
        .accept_http1(true)
        .layer(cors())
        .layer(GrpcWebLayer::new())
        .add_service(upload)
        .serve_with_incoming_shutdown(tcp, stop.clone().cancelled_owned());
    until(server, stop).await
}

/// Lets pages of any origin call the service, and read the status of a call.
fn cors() -> CorsLayer {
    let status = ["grpc-status", "grpc-message"].map(HeaderName::from_static);
    CorsLayer::permissive().expose_headers(status)
}

/// Serves until all calls have ended after `stop`, or until the grace is over.
async fn until(
    server: impl Future<Output = Result<(), tonic::transport::Error>>,
    stop: &CancellationToken,
) -> Result<(), Box<dyn Error>> {
    tokio::select! {
        result = server => result?,
        () = overtime(stop) => {
            eprintln!("grpc_upload: aborting the calls that still run after {GRACE:?}");
        }
    }
    Ok(())
}

async fn overtime(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
}
