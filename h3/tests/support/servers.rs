//! The servers that the tests compare: the same app behind this crate, and behind h3-axum with and
//! without delivery.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::DefaultBodyLimit,
    http::StatusCode,
    routing::{get, post},
};
use quinn::{Endpoint, ServerConfig, TransportConfig, crypto::rustls::QuicServerConfig};
use sha2::{Digest, Sha256};
use testkit::{MIB, tls::Certificate};
use tower_bodyguard::{BodyGuardLayer, Linger};

/// The limit of the app.
pub(crate) const LIMIT: u64 = 4 * MIB;

/// An app with each kind of early response.
pub(crate) fn app() -> Router {
    Router::new()
        .route("/", get(async || "hello").post(sha256))
        .layer(DefaultBodyLimit::disable())
        .route_layer(BodyGuardLayer::axum(LIMIT))
        .route(
            "/private",
            post(async || (StatusCode::UNAUTHORIZED, "no token")),
        )
}

async fn sha256(body: Bytes) -> String {
    hex(&Sha256::digest(&body))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server that ends with the test's runtime.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
}

/// Binds an endpoint to a free port on the loopback interface.
pub(crate) fn endpoint(certificate: &Certificate, transport: TransportConfig) -> Endpoint {
    let mut tls = (*certificate.server()).clone();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let tls = QuicServerConfig::try_from(tls).unwrap();
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap()
}

/// Which loop serves the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loop {
    /// h3-axum's.
    H3Axum,
    /// h3-axum's, with delivery around the app.
    H3AxumWithLayer,
    /// This crate's.
    Ours,
}

impl Loop {
    /// Serves an app on an endpoint. `linger` has no effect with h3-axum alone.
    pub(crate) fn serve(self, endpoint: Endpoint, app: Router, linger: &Linger) -> Server {
        let addr = endpoint.local_addr().unwrap();
        match self {
            Self::H3Axum => drop(tokio::spawn(h3_axum(endpoint, app))),
            Self::H3AxumWithLayer => {
                let app = app.layer(linger.delivery_layer());
                drop(tokio::spawn(h3_axum(endpoint, app)));
            }
            Self::Ours => {
                let serve = tower_bodyguard_h3::serve(endpoint, app).with_linger(linger);
                drop(tokio::spawn(serve.into_future()));
            }
        }
        Server { addr }
    }
}

/// The loop that h3-axum's documentation shows.
async fn h3_axum(endpoint: Endpoint, app: Router) {
    let app = app.with_state(());
    while let Some(incoming) = endpoint.accept().await {
        let app = app.clone();
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else {
                return;
            };
            let connection = h3_quinn::Connection::new(connection);
            let Ok(connection) = h3::server::Connection::new(connection).await else {
                return;
            };
            let _ = h3_axum::serve_h3_connection_with_axum(app, connection).await;
        });
    }
}
