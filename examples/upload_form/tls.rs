//! HTTPS with a self-signed certificate. axum's `serve` has no TLS, so this is an accept loop:
//! HTTP/1, HTTP/2, and a graceful shutdown.
//!
//! The socket wrapper is beneath TLS. It discards the remaining data of a refused client without
//! decrypting it, and it lingers for TLS's own last messages, too.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::Response;
use axum::serve::Listener;
use hyper::body::{Body, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_util::sync::CancellationToken;
use tower::Service;

/// How long a handshake may take: some round trips on the slowest network.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The server side of TLS.
#[derive(Clone)]
pub(crate) struct Tls(pub(crate) TlsAcceptor);

impl Tls {
    /// Creates a self-signed certificate. It is valid for this machine's usual names and for the
    /// address that the form listens on.
    pub(crate) fn self_signed(ip: IpAddr) -> Result<Self, Box<dyn Error>> {
        let names = ["localhost", "127.0.0.1", "::1", &ip.to_string()].map(str::to_owned);
        let names: Vec<_> = BTreeSet::from(names).into_iter().collect();
        let made = rcgen::generate_simple_self_signed(names)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.into()], made.signing_key.into())?;
        config.alpn_protocols = [&b"h2"[..], b"http/1.1"].map(Vec::from).into();
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Serves until `stop`, and then until every connection has ended. `connect` returns the stream
    /// beneath TLS and the service of a connection.
    pub(crate) async fn serve<I, S, B>(
        &self,
        mut listener: TcpListener,
        stop: &CancellationToken,
        connect: impl Fn(TcpStream) -> (I, S),
    ) where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let connections = GracefulShutdown::new();
        // axum's `accept` also handles errors: it waits if no file descriptors are left.
        while let Some((socket, _)) = stop
            .run_until_cancelled(Listener::accept(&mut listener))
            .await
        {
            let (io, service) = connect(socket);
            let connection = Connection {
                tls: self.clone(),
                stop: stop.clone(),
                watcher: connections.watcher(),
            };
            // Each connection is a separate task from the start, so that no client waits for
            // another's handshake.
            tokio::spawn(connection.serve(io, service));
        }
        // From here on, new connections are refused instead of waiting.
        drop(listener);
        connections.shutdown().await;
    }
}

/// The state of one connection besides its socket.
struct Connection {
    tls: Tls,
    stop: CancellationToken,
    /// The server waits until it is dropped.
    watcher: Watcher,
}

impl Connection {
    async fn serve<I, S, B>(self, io: I, service: S)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        // A client that has not finished its handshake at the shutdown has sent no request.
        let handshake = timeout(HANDSHAKE, self.tls.0.accept(io));
        let io = match self.stop.run_until_cancelled(handshake).await {
            Some(Ok(Ok(io))) => io,
            Some(Ok(Err(error))) => return tracing::debug!(%error, "a handshake failed"),
            Some(Err(_)) => return tracing::debug!("no handshake in {HANDSHAKE:?}"),
            None => return,
        };
        let builder = auto::Builder::new(TokioExecutor::new());
        let service = TowerToHyperService::new(service);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::debug!(error, "a connection failed");
        }
    }
}
