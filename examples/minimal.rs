//! An axum app with a limit of 4 MiB whose clients read "413", whatever they send.

use axum::{Router, extract::DefaultBodyLimit, routing::post};
use tower_bodyguard::{BodyGuardLayer, LingerExt, MIB};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = Router::new()
        .route(
            "/",
            post(|body: String| async move { format!("{} bytes\n", body.len()) }),
        )
        .layer(DefaultBodyLimit::disable())
        .layer(BodyGuardLayer::new(4 * MIB));

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener.linger(), app).await
}
