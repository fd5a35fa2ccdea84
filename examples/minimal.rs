//! An axum app with a limit of 4 MiB whose clients read "413", whatever they send.

use std::time::Duration;

use axum::{Router, routing::post};
use tower_bodyguard::{BodyGuardLayer, Linger, MIB};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let count = post(|body: String| async move { format!("{} bytes\n", body.len()) });
    let app = Router::new().route("/", count);
    let app = BodyGuardLayer::new(4 * MIB).for_axum().around(app);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    let linger = Linger::new();
    let stop = linger.on(tokio::signal::ctrl_c());
    linger
        .serve(listener, app)
        .with_graceful_shutdown(stop)
        .await?;
    linger.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
