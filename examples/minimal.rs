//! An axum app with a limit of 100 MiB. Every client receives the 413.
//!
//! ```text
//! cargo run --example minimal --features axum
//! curl --data-binary @some-large-file http://localhost:3000/
//! ```

use std::env;

use axum::{Router, body::Bytes, routing::post};
use tower_bodyguard::{BodyGuardLayer, MIB};
use tower_http::{cors::CorsLayer, trace::TraceLayer};
use tracing::Level;

async fn upload(body: Bytes) -> String {
    format!("{} bytes\n", body.len())
}

// The README and the crate's documentation show this function. `tests/wire/examples.rs` compares
// them.
fn app() -> Router {
    Router::new()
        .route("/", post(upload))
        .layer(BodyGuardLayer::axum(100 * MIB)) // lifts axum's own 2 MB limit, too
        .layer(CorsLayer::permissive()) // around the limit: scripts can read the 413
        .layer(TraceLayer::new_for_http()) // outermost: the log shows the 413
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .init();

    let addr = env::args().nth(1).unwrap_or("127.0.0.1:3000".into());
    let listener = tokio::net::TcpListener::bind(addr).await?;
    println!("listening on http://{}", listener.local_addr()?);

    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    tower_bodyguard::axum::serve(listener, app())
        .with_graceful_shutdown(stop)
        .await
}
