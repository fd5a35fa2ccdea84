//! axum-server over TLS: one line adds the socket wrapper beneath TLS, and delivery.
//!
//! ```text
//! cargo run --example axum_server --features axum,axum-server
//! curl --insecure --data-binary @some-large-file https://localhost:3000/
//! ```
//!
//! In a package of your own, it needs:
//!
//! ```toml
//! [dependencies]
//! axum = "0.8"
//! axum-server = { version = "0.9", features = ["tls-rustls-no-provider"] }
//! rcgen = { version = "0.14", default-features = false, features = ["pem", "ring"] }
//! tokio = { version = "1", features = ["macros", "net", "rt-multi-thread", "signal"] }
//! tokio-rustls = { version = "0.26", default-features = false, features = ["ring", "tls12"] }
//! tower-bodyguard = { version = "0.1", features = ["axum", "axum-server"] }
//! ```

use std::{env, error::Error, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, routing::post};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use tokio_rustls::rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tower_bodyguard::{BodyGuardLayer, Linger, MIB};

const SHUTDOWN: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = Router::new()
        .route(
            "/",
            post(|body: String| async move { body.len().to_string() }),
        )
        .layer(BodyGuardLayer::axum(4 * MIB));

    let addr: SocketAddr = env::args()
        .nth(1)
        .as_deref()
        .unwrap_or("127.0.0.1:3000")
        .parse()?;
    let linger = Linger::default();
    let handle = Handle::new();
    let stop = linger.on(tokio::signal::ctrl_c());
    tokio::spawn({
        let handle = handle.clone();
        async move {
            stop.await;
            handle.graceful_shutdown(Some(SHUTDOWN));
        }
    });
    tokio::spawn({
        let handle = handle.clone();
        async move {
            if let Some(addr) = handle.listening().await {
                println!("listening on https://{addr}");
            }
        }
    });
    axum_server::bind_rustls(addr, self_signed()?)
        .map(|tls| tls.acceptor(linger.acceptor()))
        .handle(handle)
        .serve(app.into_make_service())
        .await?;
    linger.shutdown(SHUTDOWN).await;
    Ok(())
}

fn self_signed() -> Result<RustlsConfig, Box<dyn Error>> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}
