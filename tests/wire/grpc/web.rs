//! gRPC-Web: the trailers are a frame of the body, because browsers expose no HTTP trailers.

use std::net::SocketAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Buf, Bytes};
use futures_util::stream;
use h2::RecvStream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, uri::PathAndQuery};
use testkit::client::{Framing, PATIENCE, SendFirst};
use tokio::time::timeout;
use tonic::{body::Body, client::Grpc, transport::Endpoint};
use tonic_prost::ProstCodec;
use tonic_web::{GrpcWebCall, GrpcWebClientLayer};
use tower::ServiceBuilder;

use super::{
    frames::{assert_refusal, connect, message, post, send},
    stage::{COUNT, LIMIT, PUT, assert_refused, assert_total, messages, serve_web, tries},
};

const BINARY: [&str; 2] = ["application/grpc-web", "application/grpc-web+proto"];
const TEXT: [&str; 2] = [
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
];

fn content_types() -> impl Iterator<Item = &'static str> {
    BINARY.into_iter().chain(TEXT)
}

fn is_text(content_type: &str) -> bool {
    TEXT.contains(&content_type)
}

/// The frames in a response body: messages, and trailers at the end.
#[derive(Debug)]
struct Frames {
    messages: Vec<Bytes>,
    trailers: HeaderMap,
}

impl Frames {
    fn parse(content_type: &str, body: &[u8]) -> Self {
        let mut body = if is_text(content_type) {
            from_base64(body)
        } else {
            Bytes::copy_from_slice(body)
        };
        let mut messages = Vec::new();
        loop {
            assert!(body.len() >= 5, "no frame of trailers: {body:?}");
            let kind = body.get_u8();
            let length = body.get_u32() as usize;
            assert!(length <= body.len(), "no whole frame: {body:?}");
            let content = body.split_to(length);
            if kind == 0x80 {
                assert!(body.is_empty(), "more than the trailers: {body:?}");
                let trailers = trailers(&content);
                return Self { messages, trailers };
            }
            assert_eq!(kind, 0);
            messages.push(content);
        }
    }
}

/// Decodes each group separately, because each piece may have its own padding.
fn from_base64(text: &[u8]) -> Bytes {
    text.chunks(4)
        .flat_map(|four| STANDARD.decode(four).expect("base64"))
        .collect()
}

fn trailers(block: &[u8]) -> HeaderMap {
    let block = std::str::from_utf8(block).unwrap();
    let lines = block.strip_suffix("\r\n").unwrap().split("\r\n");
    lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| {
            (
                HeaderName::try_from(name).unwrap(),
                HeaderValue::try_from(value).unwrap(),
            )
        })
        .collect()
}

fn assert_exposed(value: &str) {
    for name in ["grpc-status", "grpc-message"] {
        let mut names = value.split(',').map(str::trim);
        assert!(names.any(|exposed| exposed == name), "{value}");
    }
}

async fn read(body: &mut RecvStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(data) = timeout(PATIENCE, body.data()).await.unwrap() {
        let data = data.expect("the response is not cut short");
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    bytes
}

/// Sends over HTTP/1.1, with a client that sends everything before it reads.
async fn send_first(request: SendFirst, addr: SocketAddr, content_type: &str) {
    let request = request.header(&format!("Content-Type: {content_type}"));
    let outcome = tokio::task::spawn_blocking(move || request.to(addr));
    let response = outcome.await.unwrap().assert_delivered(200);
    assert_eq!(response.header("content-type"), Some(content_type));
    assert_exposed(response.header("access-control-expose-headers").unwrap());
    let frames = Frames::parse(content_type, &response.content);
    assert!(frames.messages.is_empty());
    assert_refusal(&frames.trailers);
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_declared() {
    let addr = serve_web().await;
    for content_type in content_types() {
        let request = SendFirst::post(PUT, Framing::ContentLength, 20_000_000);
        send_first(request, addr, content_type).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_streamed() {
    let addr = serve_web().await;
    for content_type in content_types() {
        let mut request = SendFirst::post(PUT, Framing::Chunked, 20_000_000);
        let message = encode(content_type, &message(3 << 20));
        request.prefix = [&message[..], &message].concat();
        send_first(request, addr, content_type).await;
    }
}

fn encode(content_type: &str, message: &Bytes) -> Bytes {
    if is_text(content_type) {
        STANDARD.encode(message).into()
    } else {
        message.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_declared() {
    let mut client = connect(serve_web().await).await;
    for content_type in content_types() {
        let request = post(PUT, content_type).header("content-length", 20_000_000);
        let request = request.body(()).unwrap();
        let (response, _stream) = client.send_request(request, false).unwrap();
        let response = timeout(PATIENCE, response).await.unwrap().unwrap();
        let (head, mut body) = response.into_parts();
        assert_eq!(head.status, 200);
        assert_eq!(head.headers["content-type"], content_type);
        let exposed = &head.headers["access-control-expose-headers"];
        assert_exposed(exposed.to_str().unwrap());
        let frames = Frames::parse(content_type, &read(&mut body).await);
        assert!(frames.messages.is_empty());
        assert_refusal(&frames.trailers);
    }
}

/// Makes a call that exceeds the limit after one of its messages got a response.
async fn overrun_in_progress(content_type: &str, accept: Option<&str>, response_type: &str) {
    let mut client = connect(serve_web().await).await;
    let mut request = post(COUNT, content_type);
    if let Some(accept) = accept {
        request = request.header("accept", accept);
    }
    let (response, mut stream) = client
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    send(&mut stream, encode(content_type, &message(10))).await;
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    let (head, mut body) = response.into_parts();
    assert_eq!(head.status, 200);
    assert_eq!(head.headers["content-type"], response_type);

    let sent = async {
        for _ in 0..3 {
            send(&mut stream, encode(content_type, &message(2 << 20))).await;
        }
    };
    let (body, ()) = tokio::join!(read(&mut body), sent);
    let frames = Frames::parse(response_type, &body);
    assert_eq!(frames.messages[0].as_ref(), b"\x08\x0a");
    assert_refusal(&frames.trailers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_in_progress_ends_with_the_refusal() {
    for content_type in BINARY {
        overrun_in_progress(content_type, None, BINARY[1]).await;
        overrun_in_progress(content_type, Some(content_type), BINARY[1]).await;
    }
    for content_type in TEXT {
        overrun_in_progress(content_type, Some(content_type), TEXT[1]).await;
    }
}

/// The service may respond in the other form, because it interprets `Accept` as it likes. The end
/// has the form of what came before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_in_progress_ends_in_its_own_form() {
    for content_type in content_types() {
        overrun_in_progress(content_type, Some(BINARY[1]), BINARY[1]).await;
        overrun_in_progress(content_type, Some(TEXT[1]), TEXT[1]).await;
        // tonic responds in binary to values that it does not know.
        overrun_in_progress(content_type, None, BINARY[1]).await;
        overrun_in_progress(content_type, Some("*/*"), BINARY[1]).await;
        let list = format!("{}, */*", TEXT[1]);
        overrun_in_progress(content_type, Some(&list), BINARY[1]).await;
    }
}

/// Uses tonic's own gRPC-Web client over HTTP/2.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_reads_every_refusal() {
    let url = format!("http://{}", serve_web().await);
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let service = ServiceBuilder::new()
        .layer(GrpcWebClientLayer::new())
        .map_request(|request: Request<GrpcWebCall<Body>>| request.map(Body::new))
        .service(channel);
    for length in [20_000_000, 1 << 20].repeat(tries() as usize) {
        let mut grpc = Grpc::new(service.clone());
        grpc.ready().await.unwrap();
        let request = tonic::Request::new(stream::iter(messages(length)));
        let path = PathAndQuery::from_static(PUT);
        let call = grpc.client_streaming(request, path, ProstCodec::<Bytes, u64>::default());
        let result = timeout(PATIENCE, call).await.expect("it comes to an end");
        match length > LIMIT {
            true => assert_refused(result),
            false => assert_total(result, length),
        }
    }
}
