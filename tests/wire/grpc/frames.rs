//! The HTTP response to a refused call, frame by frame.

use std::{future::poll_fn, net::SocketAddr};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::SendRequest};
use http::{HeaderMap, Request, Response, StatusCode};
use prost::Message;
use testkit::{client::PATIENCE, h2::over};
use tokio::{net::TcpStream, time::timeout};
use tonic::transport::Server;
use tower_bodyguard::{BodyGuardLayer, Linger, LingerConfig, StreamLinger};

use super::stage::{FORMS, Form, LIMIT, LIMIT_IN_WORDS, PUT, serve, serve_by};

const CONTENT_TYPES: [&str; 3] = [
    "application/grpc",
    "application/grpc+proto",
    "application/grpc+json",
];

pub(super) async fn connect(addr: SocketAddr) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(addr).await.unwrap();
    over(socket).await.ready().await.unwrap()
}

pub(super) fn post(path: &str, content_type: &str) -> http::request::Builder {
    Request::post(format!("http://test{path}"))
        .header("content-type", content_type)
        .header("te", "trailers")
}

/// Returns one message of `length` bytes in its wire format.
pub(super) fn message(length: u64) -> Bytes {
    let message = Bytes::from(vec![0; length as usize]).encode_to_vec();
    let prefix = (message.len() as u32).to_be_bytes();
    [&[0][..], &prefix, &message].concat().into()
}

/// Sends as much of `data` as the server accepts. Returns the reset that stopped it, if any.
pub(super) async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Option<Reason> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let sent = match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(room)) => stream.send_data(data.split_to(room.min(data.len())), false),
            _ => return Some(reset(stream).await),
        };
        if sent.is_err() {
            return Some(reset(stream).await);
        }
    }
    None
}

async fn reset(stream: &mut SendStream<Bytes>) -> Reason {
    let reset = poll_fn(|cx| stream.poll_reset(cx)).await;
    reset.expect("a reset, and not the end of the connection")
}

/// Asserts that the response is a HEADERS frame with `END_STREAM`, and nothing after it.
fn assert_trailers_only(response: &Response<RecvStream>, content_type: &str) {
    assert!(response.body().is_end_stream());
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers();
    assert_eq!(headers["content-type"], content_type);
    assert_refusal(headers);
}

pub(super) fn assert_refusal(trailers: &HeaderMap) {
    assert_eq!(trailers["grpc-status"], "8");
    let words = trailers["grpc-message"].to_str().unwrap();
    assert!(words.contains(LIMIT_IN_WORDS), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_length_is_refused_by_trailers_only() {
    for form in FORMS {
        let mut client = connect(serve(form, LIMIT).await).await;
        for content_type in CONTENT_TYPES {
            let request = post(PUT, content_type).header("content-length", LIMIT + 1);
            let request = request.body(()).unwrap();
            let (response, _stream) = client.send_request(request, false).unwrap();
            let response = timeout(PATIENCE, response).await.unwrap().unwrap();
            assert_trailers_only(&response, content_type);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_overrun_is_refused_by_trailers_only() {
    for form in FORMS {
        let mut client = connect(serve(form, LIMIT).await).await;
        for content_type in CONTENT_TYPES {
            let request = post(PUT, content_type).body(()).unwrap();
            let (response, mut stream) = client.send_request(request, false).unwrap();
            let sent = send(&mut stream, three_messages());
            let (response, reset) = tokio::join!(timeout(PATIENCE, response), sent);
            assert_trailers_only(&response.unwrap().unwrap(), content_type);
            assert!(matches!(reset, None | Some(Reason::NO_ERROR)), "{reset:?}");
        }
    }
}

/// This client keeps sending. With delivery its call is read to the end, and with the socket
/// wrapper alone it is reset.
#[tokio::test(flavor = "multi_thread")]
async fn with_delivery_the_stream_lingers() {
    let linger =
        Linger::new(LingerConfig::new().stream_linger(StreamLinger::new().timeout(PATIENCE)));
    for form in FORMS {
        let guard = BodyGuardLayer::new(LIMIT);
        let addr = serve_by(Server::builder(), &linger, form, guard).await;
        let mut client = connect(addr).await;
        let request = post(PUT, CONTENT_TYPES[0]).body(()).unwrap();
        let (response, mut stream) = client.send_request(request, false).unwrap();
        let refused = send(&mut stream, three_messages());
        let (response, _) = tokio::join!(timeout(PATIENCE, response), refused);
        assert_trailers_only(&response.unwrap().unwrap(), CONTENT_TYPES[0]);

        let rest = async {
            for _ in 0..5 {
                if let Some(reset) = send(&mut stream, three_messages()).await {
                    return Some(reset);
                }
            }
            None
        };
        let reset = timeout(PATIENCE, rest).await.expect("it is read or reset");
        match form {
            Form::Layered => assert_eq!(reset, None),
            Form::Hooked => assert_eq!(reset, Some(Reason::NO_ERROR)),
        }
    }
}

/// Returns three messages. The last one exceeds the limit.
fn three_messages() -> Bytes {
    message(2 << 20).repeat(3).into()
}
