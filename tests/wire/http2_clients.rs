//! HTTP/2: Rust clients (hyper's connection and reqwest) can read why an upload was refused.
#![cfg(feature = "axum")]

use std::{convert::Infallible, error::Error as _};

use axum::{
    http::{Request, Response, StatusCode},
    routing::post,
};
use bytes::Bytes;
use futures_util::stream;
use http_body::Body;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use testkit::{MIB, client::PATIENCE};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::rustls::crypto::ring;

use crate::server::{Server, guarded};

const TRIES: usize = 10;
const UPLOAD: usize = 20_000_000;
const LIMIT: &str = "limit is 4 MiB";

async fn server() -> Server {
    let app = guarded(4 * MIB).route("/early", post(|| async { StatusCode::UNAUTHORIZED }));
    tokio::task::spawn_blocking(move || Server::combined(app))
        .await
        .unwrap()
}

/// Returns the pieces of an upload with no declared length.
fn pieces() -> impl Iterator<Item = Bytes> {
    std::iter::repeat_n(Bytes::from(vec![0; UPLOAD / 100]), 100)
}

#[tokio::test]
async fn reqwest() {
    // reqwest needs a provider for its TLS, which is not used here. Another test may have set one.
    let _ = ring::default_provider().install_default();
    let server = server().await;
    let client = ::reqwest::Client::builder()
        .http2_prior_knowledge()
        .timeout(PATIENCE)
        .build()
        .unwrap();
    let bodies: [fn() -> ::reqwest::Body; 2] = [
        || vec![0; UPLOAD].into(),
        || ::reqwest::Body::wrap_stream(stream::iter(pieces().map(Ok::<_, Infallible>))),
    ];
    let url = format!("http://{}/", server.addr);
    for body in bodies {
        for _ in 0..TRIES {
            let response = client.post(&url).body(body()).send().await;
            let response = response.unwrap_or_else(|error| panic!("{:?}", error.source()));
            assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
            assert!(response.text().await.unwrap().contains(LIMIT));
            let within = client.post(&url).body(vec![0; 1000]).send().await.unwrap();
            assert_eq!(within.text().await.unwrap(), "1000");
        }
    }
}

async fn connect<B>(server: &Server) -> http2::SendRequest<B>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let socket = TcpStream::connect(server.addr).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
    let (client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    client
}

async fn send<B>(client: &mut http2::SendRequest<B>, path: &str, body: B) -> Response<Incoming>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let request = Request::post(format!("http://test{path}"));
    let response = client.send_request(request.body(body).unwrap());
    timeout(PATIENCE, response).await.unwrap().unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    let body = timeout(PATIENCE, response.collect()).await.unwrap();
    String::from_utf8(body.unwrap().to_bytes().into()).unwrap()
}

#[tokio::test]
async fn hyper_with_a_known_length() {
    let server = server().await;
    let mut client = connect(&server).await;
    for _ in 0..TRIES {
        let refused = send(&mut client, "/", Full::from(vec![0; UPLOAD])).await;
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert!(text(refused).await.contains(LIMIT));
        let refused = send(&mut client, "/early", Full::from(vec![0; UPLOAD])).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        let within = send(&mut client, "/", Full::from(vec![0; 1000])).await;
        assert_eq!(text(within).await, "1000");
    }
}

#[tokio::test]
async fn hyper_with_a_stream() {
    let server = server().await;
    let mut client = connect(&server).await;
    for _ in 0..TRIES {
        let frames = pieces().map(|piece| Ok(Frame::data(piece)));
        let refused = send(&mut client, "/", StreamBody::new(stream::iter(frames))).await;
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert!(text(refused).await.contains(LIMIT));
    }
}
