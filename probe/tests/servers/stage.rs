//! Servers that run in this process, and the probe of them.

use std::{
    future::{Future, ready},
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderValue, header::ALT_SVC},
    middleware::map_response,
    response::Response,
    routing::any,
};
use axum_server::tls_rustls::RustlsConfig;
use early_response_probe::{Client, Finding, Options, ProbeError, Report, Target, probe};
use quinn::{Endpoint, Incoming, ServerConfig, crypto::rustls::QuicServerConfig};
use testkit::{client::PATIENCE, tls::Certificate};
use tokio::{
    net::TcpListener,
    runtime::{self, Runtime},
};
use tower_bodyguard::{BodyGuardLayer, Linger, LingerConfig, MIB, StreamLinger};

/// How long the clients wait for a server that never sends. It suffices for the handshake of QUIC
/// if the first packet is lost: quinn repeats it after 1 s.
pub(crate) const IMPATIENCE: Duration = Duration::from_secs(3);

pub(crate) const LIMIT: u64 = 4 * MIB;

/// A server on its own runtime. It stops when it is dropped.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    // Dropped by `Drop` without waiting.
    runtime: Option<Runtime>,
}

impl Server {
    fn run<F>(serve: impl FnOnce(TcpListener) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        Self::start(runtime, addr, || serve(listener))
    }

    fn run_http3<F>(certificate: &Certificate, serve: impl FnOnce(Endpoint) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = Runtime::new().unwrap();
        let endpoint = runtime.block_on(async { quic(certificate) });
        let addr = endpoint.local_addr().unwrap();
        Self::start(runtime, addr, || serve(endpoint))
    }

    fn start<F>(runtime: Runtime, addr: SocketAddr, serve: impl FnOnce() -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        runtime.spawn({
            let _context = runtime.enter();
            serve()
        });
        Self {
            addr,
            runtime: Some(runtime),
        }
    }

    /// Runs the project's own server, with its limit.
    pub(crate) fn good() -> Self {
        Self::good_with_limit(LIMIT)
    }

    pub(crate) fn good_with_limit(limit: u64) -> Self {
        Self::run(move |listener| async move {
            let app = counting().layer(BodyGuardLayer::axum(limit));
            let server = tower_bodyguard::axum::serve(listener, app);
            server.with_linger(&patient()).await.unwrap();
        })
    }

    /// Runs the same app without delivery and without the socket wrapper.
    pub(crate) fn stock() -> Self {
        Self::run(|listener| async move {
            let app = counting().layer(BodyGuardLayer::axum(LIMIT));
            axum::serve(listener, app).await.unwrap();
        })
    }

    /// Runs the same app with axum-server, over TLS and with HTTP/2.
    pub(crate) fn good_with_tls() -> Self {
        Self::good_with_certificate(&Certificate::new(), None)
    }

    /// Runs the same, with a certificate and perhaps with `Alt-Svc` in the responses of `/`.
    pub(crate) fn good_with_certificate(
        certificate: &Certificate,
        alt_svc: Option<HeaderValue>,
    ) -> Self {
        let mut config = (*certificate.server()).clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = RustlsConfig::from_config(Arc::new(config));
        Self::run(|listener| async move {
            let app = counting().layer(BodyGuardLayer::axum(LIMIT));
            let app = app.route_layer(map_response(move |mut response: Response| {
                response
                    .headers_mut()
                    .extend(alt_svc.clone().map(|value| (ALT_SVC, value)));
                ready(response)
            }));
            let listener = listener.into_std().unwrap();
            let server = axum_server::from_tcp_rustls(listener, config).unwrap();
            let linger = patient();
            server
                .map(|tls| tls.acceptor(linger.acceptor()))
                .serve(app.into_make_service())
                .await
                .unwrap();
        })
    }

    /// Runs the project's own server for HTTP/3, with its limit.
    pub(crate) fn good_with_http3(certificate: &Certificate) -> Self {
        Self::run_http3(certificate, |endpoint| async {
            let app = counting().layer(BodyGuardLayer::axum(LIMIT));
            let server = tower_bodyguard_h3::serve(endpoint, app);
            server.with_linger(&patient()).await.unwrap();
        })
    }

    /// Runs the same app with the loop of h3-axum's documentation.
    pub(crate) fn stock_http3() -> Self {
        Self::run_http3(&Certificate::new(), |endpoint| async move {
            let app = counting().layer(BodyGuardLayer::axum(LIMIT));
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(h3_axum(incoming, app.clone()));
            }
        })
    }
}

async fn h3_axum(incoming: Incoming, app: Router) -> Option<()> {
    let connection = h3_quinn::Connection::new(incoming.await.ok()?);
    let connection = h3::server::Connection::new(connection).await.ok()?;
    let served = h3_axum::serve_h3_connection_with_axum(app, connection);
    served.await.ok()
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Binds an endpoint of QUIC to a free port.
pub(crate) fn quic(certificate: &Certificate) -> Endpoint {
    let mut tls = (*certificate.server()).clone();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let tls = QuicServerConfig::try_from(tls).unwrap();
    let config = ServerConfig::with_crypto(Arc::new(tls));
    Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap()
}

/// Relays datagrams of one client to the server, at most one in 5 ms, and all replies.
pub(crate) fn slow_uplink(server: SocketAddr) -> SocketAddr {
    let bind = || Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
    let (front, back) = (bind(), bind());
    back.connect(server).unwrap();
    let addr = front.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        let (length, client) = front.recv_from(&mut buffer).unwrap();
        back.send(&buffer[..length]).unwrap();
        thread::spawn({
            let (front, back) = (Arc::clone(&front), Arc::clone(&back));
            move || {
                let mut buffer = [0; 1 << 16];
                while let Ok(length) = back.recv(&mut buffer) {
                    front.send_to(&buffer[..length], client).unwrap();
                }
            }
        });
        while let Ok(length) = front.recv(&mut buffer) {
            thread::sleep(Duration::from_millis(5));
            // The server may have gone.
            let _ = back.send(&buffer[..length]);
        }
    });
    addr
}

/// Returns a handle without a time in which an upload has to end: a test may run on a busy machine.
fn patient() -> Linger {
    let streams = StreamLinger::new()
        .timeout(PATIENCE)
        .idle_timeout(PATIENCE)
        .max_bytes(None);
    Linger::new(LingerConfig::new().stream_linger(streams))
}

/// Responds with the length of the body.
fn counting() -> Router {
    let count = |body: Bytes| async move { format!("{}\n", body.len()) };
    Router::new().route("/", any(count))
}

/// Returns options for one upload by each of the clients.
pub(crate) fn options(clients: &[Client]) -> Options {
    Options {
        runs: 1,
        clients: clients.to_vec(),
        timeout: PATIENCE,
        insecure: true,
        ..Options::default()
    }
}

/// Returns options for one upload over HTTP/3 by each of the clients. It is twice the limit, and six
/// times the window of a stream of quinn.
pub(crate) fn http3_options(clients: &[Client]) -> Options {
    Options {
        size: 2 * LIMIT,
        http3_without_alt_svc: true,
        ..options(clients)
    }
}

/// Adds the headers that HTTP/1.1 has and HTTP/2 and HTTP/3 lack.
pub(crate) fn with_http1_headers(mut options: Options) -> Options {
    for (name, value) in [
        ("host", "other.example"),
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("te", "gzip"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
    ] {
        options.headers.insert(name, value.parse().unwrap());
    }
    options
}

pub(crate) fn run(url: &str, options: &Options) -> Report {
    try_run(url, options).unwrap()
}

pub(crate) fn try_run(url: &str, options: &Options) -> Result<Report, ProbeError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let target = Target::new(url).await.unwrap();
        probe(&target, options, |_| {}).await
    })
}

/// Returns the findings of a report.
pub(crate) fn found(report: &Report) -> Vec<Finding> {
    report.findings.iter().map(|found| found.finding).collect()
}
