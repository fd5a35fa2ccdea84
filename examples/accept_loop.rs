//! A custom accept loop with hyper-util's builder, over TCP or TLS.
//!
//! ```text
//! cargo run --example accept_loop --features axum -- --tls
//! curl --insecure --data-binary @some-large-file https://localhost:3000/
//! ```

use std::{env, error::Error, sync::Arc, time::Duration};

use axum::{Router, routing::post};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};
use tower_bodyguard::{BodyGuardLayer, BoxError, Delivery, Linger, MIB};

const HANDSHAKE: Duration = Duration::from_secs(10);
const SHUTDOWN: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let addr = args.iter().find(|arg| *arg != "--tls");
    let tls = match args.iter().any(|arg| arg == "--tls") {
        true => Some(self_signed()?),
        false => None,
    };
    let app = Router::new()
        .route(
            "/",
            post(|body: String| async move { body.len().to_string() }),
        )
        .layer(BodyGuardLayer::axum(4 * MIB))
        .with_state(());

    let listener = TcpListener::bind(addr.map_or("127.0.0.1:3000", String::as_str)).await?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    println!("listening on {scheme}://{}", listener.local_addr()?);
    let linger = Linger::default();
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(linger.on(tokio::signal::ctrl_c()));
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            () = &mut stop => break,
        };
        // Each connection has its own service. TLS goes around the socket wrapper.
        let (io, service) = linger.wrap(socket, app.clone());
        let watcher = graceful.watcher();
        let tls = tls.clone();
        tokio::spawn(async move {
            let served = match tls {
                Some(tls) => match timeout(HANDSHAKE, tls.accept(io)).await {
                    Ok(Ok(io)) => serve(io, service, watcher).await,
                    _ => return,
                },
                None => serve(io, service, watcher).await,
            };
            if let Err(error) = served {
                eprintln!("a connection ended: {error}");
            }
        });
    }
    // First wait for the requests in progress, then for the clients that still have to read their
    // response.
    if timeout(SHUTDOWN, graceful.shutdown()).await.is_err() {
        eprintln!("some requests took too long");
    }
    linger.shutdown(SHUTDOWN).await;
    Ok(())
}

async fn serve<T>(io: T, service: Delivery<Router>, watcher: Watcher) -> Result<(), BoxError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    let service = TowerToHyperService::new(service);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
    watcher.watch(connection.into_owned()).await
}

fn self_signed() -> Result<TlsAcceptor, Box<dyn Error>> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}
