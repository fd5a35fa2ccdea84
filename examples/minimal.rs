//! An axum app with a limit of 4 MiB whose clients read "413", whatever they send.

use axum::{Router, routing::post};
use tower_bodyguard::{BodyGuardLayer, Linger, MIB};

async fn count(body: String) -> String {
    format!("{} bytes\n", body.len())
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = Router::new()
        .route("/", post(count))
        .layer(BodyGuardLayer::for_axum(4 * MIB));

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Linger::new().serve(listener, app).await
}
