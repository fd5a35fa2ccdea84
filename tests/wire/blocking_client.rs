//! reqwest's blocking client sends its whole body before it looks at the response. hyper's client,
//! which is inside it, aborts the upload if the connection ends meanwhile. So the response arrives
//! only if the half-close waits.
#![cfg(all(feature = "axum", feature = "axum-server"))]

use std::{
    io::{self, Read},
    time::Duration,
};

use axum::{Router, http::StatusCode};
use axum_server::tls_rustls::RustlsConfig;
use reqwest::blocking::{Body, Client, RequestBuilder, Response, multipart};
use testkit::{
    MIB,
    client::PATIENCE,
    tls::{Certificate, Connector},
};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tower_bodyguard::{Linger, LingerConfig};

use crate::server::{Server, guarded};

const TRIES: usize = 10;
const UPLOAD: u64 = 20_000_000;

type Upload = fn(RequestBuilder) -> RequestBuilder;

/// The bodies that are sent from another thread than the connection's.
const UPLOADS: [(&str, Upload); 5] = [
    ("file", |request| request.body(file())),
    ("sized reader", |request| {
        request.body(Body::sized(zeros(), UPLOAD))
    }),
    ("reader", |request| request.body(Body::new(zeros()))),
    ("multipart file", |request| {
        let file = multipart::Part::reader_with_length(zeros(), UPLOAD);
        request.multipart(multipart::Form::new().part("file", file))
    }),
    ("multipart reader", |request| {
        let file = multipart::Part::reader(zeros());
        request.multipart(multipart::Form::new().part("file", file))
    }),
];

fn zeros() -> io::Take<io::Repeat> {
    io::repeat(0).take(UPLOAD)
}

fn file() -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    io::copy(&mut zeros(), &mut file).unwrap();
    io::Seek::rewind(&mut file).unwrap();
    file
}

/// A server, and a client for it.
struct Reached {
    _server: Server,
    client: Client,
    url: String,
}

impl Reached {
    fn over_tcp(server: Server) -> Self {
        Self::over("http", server, &Connector::trusting_anyone())
    }

    fn over_tls(server: Server, connector: &Connector) -> Self {
        Self::over("https", server, connector)
    }

    fn over(scheme: &str, server: Server, connector: &Connector) -> Self {
        let client = Client::builder()
            .http1_only()
            .tls_backend_preconfigured(connector.config())
            .resolve("localhost", server.addr)
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let url = format!("{scheme}://localhost:{}/", server.addr.port());
        Self {
            _server: server,
            client,
            url,
        }
    }

    fn send(&self, upload: Upload) -> reqwest::Result<Response> {
        upload(self.client.post(&self.url)).send()
    }

    /// Returns how many of `tries` uploads get the refusal.
    fn count_refused(&self, upload: Upload, tries: usize) -> usize {
        let sent = (0..tries).filter_map(|_| self.send(upload).ok());
        sent.filter(|response| response.status() == StatusCode::PAYLOAD_TOO_LARGE)
            .filter_map(|response| response.text().ok())
            .filter(|text| text.contains("limit is 4 MiB"))
            .count()
    }
}

fn app() -> Router {
    guarded(4 * MIB)
}

fn without_waiting() -> Linger {
    Linger::new(LingerConfig::new().half_close_timeout(Duration::ZERO))
}

fn over_http(linger: Linger) -> Server {
    Server::run_with(linger, |listener, linger| async move {
        tower_bodyguard::axum::serve(listener, app())
            .with_linger(&linger)
            .await
            .unwrap();
    })
}

fn over_https(linger: Linger, certificate: &Certificate) -> Server {
    let config = RustlsConfig::from_config(certificate.server());
    Server::run_with(linger, |listener, linger| async move {
        let listener = listener.into_std().unwrap();
        axum_server::from_tcp_rustls(listener, config)
            .unwrap()
            .map(|tls| tls.acceptor(linger.acceptor()))
            .serve(app().into_make_service())
            .await
            .unwrap();
    })
}

fn over_https_without_this_crate(certificate: &Certificate) -> Server {
    let config = RustlsConfig::from_config(certificate.server());
    Server::run(|listener, _| async move {
        let listener = listener.into_std().unwrap();
        axum_server::from_tcp_rustls(listener, config)
            .unwrap()
            .serve(app().into_make_service())
            .await
            .unwrap();
    })
}

#[test]
fn refusal_arrives_with_each_body_over_tcp_and_tls() {
    let certificate = Certificate::new();
    let tls = |version| {
        let server = over_https(Linger::default(), &certificate);
        Reached::over_tls(server, &certificate.client(version))
    };
    for (name, reached) in [
        ("TCP", Reached::over_tcp(over_http(Linger::default()))),
        ("TLS 1.2", tls(&TLS12)),
        ("TLS 1.3", tls(&TLS13)),
    ] {
        for (body, upload) in UPLOADS {
            let refused = reached.count_refused(upload, TRIES);
            assert_eq!(refused, TRIES, "{body} over {name}");
        }
    }
}

/// The control: the client loses the refusal if the half-close does not wait, as it does on a stock
/// server.
#[test]
fn refusal_is_lost_if_the_half_close_does_not_wait() {
    let certificate = Certificate::new();
    let tls = |server| Reached::over_tls(server, &certificate.client(&TLS13));
    for (name, reached) in [
        ("stock TCP", Reached::over_tcp(Server::plain(app()))),
        (
            "stock TLS",
            tls(over_https_without_this_crate(&certificate)),
        ),
        ("TCP", Reached::over_tcp(over_http(without_waiting()))),
        ("TLS", tls(over_https(without_waiting(), &certificate))),
    ] {
        for (body, upload) in UPLOADS {
            let refused = reached.count_refused(upload, 3);
            assert!(refused < 3, "{body} over {name}");
        }
    }
}
