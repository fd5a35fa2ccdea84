//! h3's own client, which sends everything before it reads.

use std::{fmt::Display, net::SocketAddr, sync::Arc};

use axum::http::{self, header::CONTENT_LENGTH};
use bytes::{Buf, Bytes};
use futures_util::future::try_join_all;
use quinn::{ClientConfig, Endpoint, TransportConfig, crypto::rustls::QuicClientConfig};
use sha2::{Digest, Sha256};
use testkit::tls::trusting_anyone;

use crate::servers::hex;

type SendRequest = h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>;

/// A request, and the status that its response has to have.
#[derive(Clone, Copy)]
struct Exchange {
    path: &'static str,
    /// `None` for a GET.
    length: Option<usize>,
    is_declared: bool,
    status: u16,
}

const fn post(path: &'static str, length: usize, status: u16) -> Exchange {
    Exchange {
        path,
        length: Some(length),
        is_declared: true,
        status,
    }
}

const GET: Exchange = Exchange {
    path: "/",
    length: None,
    is_declared: false,
    status: 200,
};

const LARGE: usize = 20_000_000;
const MEDIUM: usize = 5_000_000;
const SMALL: usize = 3_000_000;

/// Returns the config of a client that accepts any certificate.
pub(crate) fn config(transport: TransportConfig) -> ClientConfig {
    let mut tls = (*trusting_anyone()).clone();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let tls = QuicClientConfig::try_from(tls).unwrap();
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    config
}

/// Creates a client endpoint on the loopback interface.
pub(crate) fn endpoint(transport: TransportConfig) -> Endpoint {
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(config(transport));
    endpoint
}

/// Plays a scenario on a connection of its own.
pub(crate) async fn play(addr: SocketAddr, scenario: &str) -> Result<(), String> {
    let connecting = endpoint(TransportConfig::default()).connect(addr, "localhost");
    let connection = connecting.unwrap().await.map_err(text)?;
    let connection = h3_quinn::Connection::new(connection);
    let (mut driver, client) = h3::client::new(connection).await.map_err(text)?;
    let driver = tokio::spawn(async move { driver.wait_idle().await });
    let one_after_the_other = match scenario {
        "413_declared" => vec![post("/", LARGE, 413)],
        "413_streamed" => vec![Exchange {
            is_declared: false,
            ..post("/", LARGE, 413)
        }],
        "401" => vec![post("/private", LARGE, 401)],
        "404" => vec![post("/nothing", LARGE, 404)],
        "accepted" => vec![post("/", SMALL, 200)],
        "get" => vec![GET],
        "twenty_on_one" => [
            GET,
            post("/", MEDIUM, 413),
            post("/", SMALL, 200),
            post("/private", MEDIUM, 401),
        ]
        .repeat(5),
        "ten_at_once" => {
            let both = [post("/", MEDIUM, 413), post("/", SMALL, 200)].repeat(5);
            try_join_all(both.iter().map(|one| exchange(client.clone(), *one))).await?;
            Vec::new()
        }
        other => panic!("there is no scenario {other}"),
    };
    for one in one_after_the_other {
        exchange(client.clone(), one).await?;
    }
    drop(client);
    // It ends with the last handle of the client.
    let _ = driver.await;
    Ok(())
}

async fn exchange(mut client: SendRequest, exchange: Exchange) -> Result<(), String> {
    let Exchange {
        path,
        length,
        is_declared,
        status,
    } = exchange;
    let mut request = http::Request::builder().uri(format!("https://localhost{path}"));
    if let Some(length) = length {
        request = request.method("POST");
        if is_declared {
            request = request.header(CONTENT_LENGTH, length);
        }
    }
    let request = request.body(()).map_err(text)?;
    let mut stream = client.send_request(request).await.map_err(text)?;
    let mut left = length.unwrap_or(0);
    while left > 0 {
        let part = left.min(65536);
        stream.send_data(vec![0; part].into()).await.map_err(text)?;
        left -= part;
    }
    stream.finish().await.map_err(text)?;
    let response = stream.recv_response().await.map_err(text)?;
    if response.status() != status {
        return Err(format!("{path}: {} and not {status}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(mut part) = stream.recv_data().await.map_err(text)? {
        body.extend_from_slice(&part.copy_to_bytes(part.remaining()));
    }
    let expected = match length {
        Some(length) if status == 200 => hex(&Sha256::digest(vec![0; length])),
        None => "hello".to_owned(),
        Some(_) => return Ok(()),
    };
    match body == expected.as_bytes() {
        true => Ok(()),
        false => Err(format!("{path}: {}", String::from_utf8_lossy(&body))),
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}
