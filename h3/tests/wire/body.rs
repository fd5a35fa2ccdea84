//! The request body: its end, its length, its trailers and its drop. And what h3-quinn does there.

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request as AxumRequest,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use h3::{error::Code, quic as h3_quic, server::RequestStream};
use http_body::Body as _;
use http_body_util::BodyExt;
use quinn::{Connection, TransportConfig};
use testkit::tls::Certificate;
use tower_bodyguard::Linger;
use tower_bodyguard_h3::{RequestBody, RequestBodyError, quic};

use crate::{
    h3_client,
    raw::{
        H3_INTERNAL_ERROR, H3_MESSAGE_ERROR, H3_NO_ERROR, LARGE, Request, connect, data, field,
        frame, long_head, now, received, soon,
    },
    servers::{self, Loop},
};

/// A client whose request head has been sent, and the server's side of that request.
struct Accepted<C>
where
    C: h3_quic::Connection<Bytes>,
{
    link: Connection,
    client: Request,
    /// The streams end with it.
    _connection: h3::server::Connection<C, Bytes>,
    headers: HeaderMap,
    stream: RequestStream<C::BidiStream, Bytes>,
}

/// Begins a request, and accepts its connection by `make`.
async fn accept<C>(make: impl FnOnce(Connection) -> C, length: Option<u64>) -> Accepted<C>
where
    C: h3_quic::Connection<Bytes>,
    C::BidiStream: h3_quic::BidiStream<Bytes>,
{
    let endpoint = servers::endpoint(&Certificate::new(), TransportConfig::default());
    let addr: SocketAddr = endpoint.local_addr().unwrap();
    let begin = async {
        let link = connect(addr).await;
        let request = Request::begin(&link, "POST", "/", length).await;
        (link, request)
    };
    let accept = async {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        let mut connection = h3::server::Connection::new(make(connection)).await.unwrap();
        let resolver = connection.accept().await.unwrap().unwrap();
        let (head, stream) = resolver.resolve_request().await.unwrap();
        (connection, head.headers().clone(), stream)
    };
    let ((link, client), (_connection, headers, stream)) =
        soon(async { tokio::join!(begin, accept) }).await;
    Accepted {
        link,
        client,
        _connection,
        headers,
        stream,
    }
}

#[tokio::test]
async fn drop_waits_for_the_response_and_asks_to_stop_with_no_error() {
    let at = accept(quic::Connection::new, Some(LARGE)).await;
    let (_send, recv) = h3_stream_split(at.stream);
    let (mut body, guard) = RequestBody::with_response(recv, &at.headers);
    // A poll is pending.
    assert!(now(body.frame()).is_none());
    drop(body);
    soon(received(&at.link)).await;
    assert!(now(at.client.send.stopped()).is_none());
    drop(guard);
    let code = soon(at.client.send.stopped()).await.unwrap();
    assert_eq!(code, Some(H3_NO_ERROR.into()));
}

#[tokio::test]
async fn drop_without_a_response_asks_to_stop_immediately() {
    let at = accept(quic::Connection::new, None).await;
    let (_send, recv) = h3_stream_split(at.stream);
    drop(RequestBody::new(recv, &at.headers));
    let code = soon(at.client.send.stopped()).await.unwrap();
    assert_eq!(code, Some(H3_NO_ERROR.into()));
}

fn h3_stream_split<S>(
    stream: RequestStream<S, Bytes>,
) -> (
    RequestStream<S::SendStream, Bytes>,
    RequestStream<S::RecvStream, Bytes>,
)
where
    S: h3_quic::BidiStream<Bytes>,
{
    stream.split()
}

/// h3-quinn's own `stop_sending` panics when a poll was pending. This body does not.
#[tokio::test]
async fn drop_after_a_pending_poll_does_not_panic_with_h3_quinn() {
    let at = accept(h3_quinn::Connection::new, Some(LARGE)).await;
    let (_send, mut recv) = h3_stream_split(at.stream);
    assert!(now(recv.recv_data()).is_none());
    let stopped = catch_unwind(AssertUnwindSafe(|| recv.stop_sending(Code::H3_NO_ERROR)));
    assert!(
        stopped.is_err(),
        "h3-quinn is mended: `RequestBody` may always stop"
    );

    let (mut body, guard) = RequestBody::with_response(recv, &at.headers);
    assert!(now(body.frame()).is_none());
    drop(body);
    drop(guard);
    let code = soon(at.client.send.stopped()).await.unwrap();
    assert_eq!(code, Some(0u32.into()));
}

#[tokio::test]
async fn request_without_a_body_is_at_its_end_unpolled() {
    let app = Router::new().fallback(async |request: AxumRequest| {
        let body = request.into_body();
        format!("{} {:?}", body.is_end_stream(), body.size_hint().exact())
    });
    let connection = serve(app).await;
    for (method, declared) in [("GET", None), ("POST", None), ("POST", Some(0))] {
        let mut request = Request::begin_and_end(&connection, method, declared).await;
        let response = request.response().await.unwrap();
        assert_eq!(response.text(), "true Some(0)", "{method} {declared:?}");
    }
    let mut request = Request::begin(&connection, "POST", "/", Some(1000)).await;
    assert_eq!(request.response().await.unwrap().text(), "false Some(1000)");
}

async fn serve(app: Router) -> Connection {
    let endpoint = servers::endpoint(&Certificate::new(), TransportConfig::default());
    let server = Loop::Ours.serve(endpoint, app, &Linger::default());
    connect(server.addr).await
}

/// An app that reports each frame of the body.
fn frames() -> Router {
    Router::new().route(
        "/",
        post(async |body: Body| {
            let mut body = body;
            let mut seen = String::new();
            loop {
                let exact = body.size_hint().exact();
                seen += &match body.frame().await {
                    None => return seen + "end",
                    Some(Err(error)) => {
                        let error = error.into_inner();
                        let error = error.downcast::<RequestBodyError>().unwrap();
                        return format!("{seen}{error}, {}", error.is_length_mismatch());
                    }
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => format!("{} of {exact:?}, ", data.len()),
                        Err(frame) => format!("{:?}, ", frame.into_trailers().unwrap()["name"]),
                    },
                };
            }
        }),
    )
}

#[tokio::test]
async fn body_has_its_length_and_its_trailers() {
    let connection = serve(frames()).await;
    let mut request = Request::begin(&connection, "POST", "/", Some(5)).await;
    request.send.write_all(&data(b"12345")).await.unwrap();
    request
        .send
        .write_all(&frame(0x21, b"unknown"))
        .await
        .unwrap();
    request
        .send
        .write_all(&frame(0x01, &field("name", "value")))
        .await
        .unwrap();
    request.send.finish().unwrap();
    let response = request.response().await.unwrap();
    assert_eq!(response.text(), "5 of Some(5), \"value\", end");
}

/// h3 leaves that to the body.
#[tokio::test]
async fn body_of_another_length_is_an_error() {
    let connection = serve(frames()).await;
    let mut request = Request::begin(&connection, "POST", "/", Some(5)).await;
    request.send.write_all(&data(b"123")).await.unwrap();
    request.send.finish().unwrap();
    let response = request.response().await.unwrap();
    assert!(
        response
            .text()
            .contains("ended after 3 bytes, and its Content-Length is 5 bytes, true")
    );

    let mut request = Request::begin(&connection, "POST", "/", Some(5)).await;
    request.send.write_all(&data(b"123")).await.unwrap();
    request.send.write_all(&data(b"456")).await.unwrap();
    let response = request.response().await.unwrap();
    assert!(
        response
            .text()
            .contains("longer than its Content-Length of 5 bytes: at least 6 bytes arrived, true")
    );
    let code = soon(request.send.stopped()).await.unwrap();
    assert_eq!(code, Some(H3_MESSAGE_ERROR.into()));
}

/// h3 takes an empty frame for the end of the data, and the frame after it for an error of the whole
/// connection, or the body for too short.
#[tokio::test]
async fn empty_data_frames_are_no_end() {
    let connection = serve(frames()).await;
    for declared in [None, Some(4)] {
        let mut request = Request::begin(&connection, "POST", "/", declared).await;
        for part in ["", "12", "", "", "34", ""] {
            request
                .send
                .write_all(&data(part.as_bytes()))
                .await
                .unwrap();
            // Each frame arrives by itself.
            soon(received(&connection)).await;
        }
        request.send.finish().unwrap();
        let response = request.response().await.unwrap();
        let bytes: usize = response
            .text()
            .split(' ')
            .filter_map(|word| word.parse::<usize>().ok())
            .sum();
        assert!(response.text().ends_with(", end"), "{}", response.text());
        assert_eq!(bytes, 4, "{}", response.text());
    }
}

/// h3 alone would read ahead with each frame, past the window of the stream.
#[tokio::test]
async fn short_frames_are_read_one_at_a_time() {
    let at = accept(quic::Connection::new, None).await;
    let (_send, recv) = h3_stream_split(at.stream);
    let (mut body, _guard) = RequestBody::with_response(recv, &at.headers);
    // 3 bytes each, and far more than the window (1.25 MB) and a chunk together.
    let frames = [0x00, 1, b'x'].repeat(1 << 20);
    let mut client = at.client;
    let sending = tokio::spawn(async move {
        for part in frames.chunks(3000) {
            client.send.write_all(part).await.unwrap();
        }
    });
    // Until the window is nearly full.
    while at.link.stats().udp_tx.bytes < 1_200_000 {
        soon(received(&at.link)).await;
    }
    soon(received(&at.link)).await;
    for _ in 0..1000 {
        let frame = soon(body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "x");
    }
    soon(received(&at.link)).await;
    let credits = at.link.stats().frame_rx.max_stream_data;
    assert_eq!(credits, 0, "the server has read far more than it passed on");
    assert!(!sending.is_finished());
}

/// The client sends more than it declared.
#[tokio::test]
async fn malformed_body_is_stopped_after_the_response() {
    let mut at = accept(quic::Connection::new, Some(5)).await;
    let (_send, recv) = h3_stream_split(at.stream);
    let (mut body, guard) = RequestBody::with_response(recv, &at.headers);
    at.client.send.write_all(&data(b"123456")).await.unwrap();
    let error = soon(body.frame()).await.unwrap().unwrap_err();
    assert!(error.is_length_mismatch());
    drop(body);
    soon(received(&at.link)).await;
    assert!(now(at.client.send.stopped()).is_none());
    drop(guard);
    let code = soon(at.client.send.stopped()).await.unwrap();
    assert_eq!(code, Some(H3_MESSAGE_ERROR.into()));
}

#[tokio::test]
async fn content_length_is_taken_if_it_is_one_number() {
    for (lengths, hint) in [
        (&["7"][..], Some(7)),
        (&["7", "7"], Some(7)),
        (&["7", "8"], None),
        (&["+7"], None),
        (&["7, 7"], None),
        (&[""], None),
        (&["99999999999999999999"], None),
    ] {
        let at = accept(quic::Connection::new, None).await;
        let (_send, recv) = h3_stream_split(at.stream);
        let mut headers = HeaderMap::new();
        for length in lengths {
            headers.append("content-length", length.parse().unwrap());
        }
        let body = RequestBody::new(recv, &headers);
        assert_eq!(body.size_hint().exact(), hint, "{lengths:?}");
    }
}

/// A `DATA` frame of 10 bytes of which 5 arrive, and then the end.
async fn truncated(connection: &Connection) -> Request {
    let mut request = Request::begin(connection, "POST", "/", None).await;
    request.send.write_all(&data(&[0; 10])[..10]).await.unwrap();
    // The end comes by itself.
    soon(received(connection)).await;
    request.send.finish().unwrap();
    request
}

#[tokio::test]
async fn end_inside_of_a_frame_is_an_error() {
    let connection = serve(frames()).await;
    let mut request = truncated(&connection).await;
    let response = request.response().await.unwrap();
    assert!(
        response
            .text()
            .ends_with("the HTTP/3 stream of the request failed, false"),
        "{}",
        response.text()
    );
}

/// The control of the test above: h3 panics in the handler's task.
#[tokio::test]
async fn end_inside_of_a_frame_panics_in_h3() {
    let mut at = accept(h3_quinn::Connection::new, None).await;
    let (_send, mut recv) = h3_stream_split(at.stream);
    at.client
        .send
        .write_all(&data(&[0; 10])[..10])
        .await
        .unwrap();
    assert!(soon(recv.recv_data()).await.unwrap().is_some());
    at.client.send.finish().unwrap();
    assert!(
        soon(recv.recv_data()).await.unwrap().is_none(),
        "h3 reports the truncated frame"
    );
    let trailers = catch_unwind(AssertUnwindSafe(|| now(recv.recv_trailers())));
    assert!(
        trailers.is_err(),
        "h3 is mended: `Frames` need not look for the end"
    );
}

/// A response that fails is reset. quinn would end its stream.
#[tokio::test]
async fn aborted_response_does_not_look_whole() {
    let app = Router::new()
        .route(
            "/body",
            post(async || {
                let frames = [Ok("part"), Err("the disk is full")];
                Body::from_stream(futures_util::stream::iter(frames))
            }),
        )
        .route(
            "/panic",
            post(async || -> String { panic!("expected by the test") }),
        );
    let connection = serve(app).await;
    for path in ["/body", "/panic"] {
        let mut request = Request::begin(&connection, "POST", path, None).await;
        request.send.finish().unwrap();
        let failed = request.response().await.unwrap_err();
        let reset = quinn::ReadError::Reset(H3_INTERNAL_ERROR.into());
        assert_eq!(failed, quinn::ReadToEndError::Read(reset), "{path}");
    }
}

/// A client would wait for the final response.
#[tokio::test]
async fn interim_response_of_a_service_is_an_error_of_the_server() {
    let app = Router::new().fallback(async || (StatusCode::EARLY_HINTS, "hints"));
    let connection = serve(app).await;
    let mut request = Request::begin_and_end(&connection, "GET", None).await;
    let response = request.response().await.unwrap();
    assert_eq!((response.status, response.text()), (500, ""));
}

/// Fields of HTTP/1 would make the response malformed.
#[tokio::test]
async fn response_has_no_fields_of_http1_and_no_body_to_head() {
    let fields = [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("keep-alive", "timeout=5"),
    ];
    let app = Router::new().fallback(move || async move { (fields, "hello") });
    let endpoint = servers::endpoint(&Certificate::new(), TransportConfig::default());
    let server = Loop::Ours.serve(endpoint, app, &Linger::default());
    let connecting =
        h3_client::endpoint(TransportConfig::default()).connect(server.addr, "localhost");
    let connection = h3_quinn::Connection::new(soon(connecting.unwrap()).await.unwrap());
    let (mut driver, mut client) = h3::client::new(connection).await.unwrap();
    tokio::spawn(async move { driver.wait_idle().await });
    for (method, body) in [("GET", Some(5)), ("HEAD", None)] {
        let request = http::Request::builder()
            .method(method)
            .uri("https://localhost/");
        let mut stream = client
            .send_request(request.body(()).unwrap())
            .await
            .unwrap();
        stream.finish().await.unwrap();
        let response = soon(stream.recv_response()).await.unwrap();
        let headers = response.headers();
        for (name, _) in fields {
            assert!(!headers.contains_key(name), "{name}");
        }
        assert!(headers.contains_key("date"));
        let received = soon(stream.recv_data()).await.unwrap();
        assert_eq!(received.map(|data| bytes::Buf::remaining(&data)), body);
    }
}

/// h3 responds to it, and drops the request.
#[tokio::test]
async fn head_above_the_limit_is_refused_with_431() {
    let connection = serve(frames()).await;
    let (mut send, recv) = connection.open_bi().await.unwrap();
    send.write_all(&long_head(20_000)).await.unwrap();
    let mut request = Request { send, recv };
    let code = soon(request.send.stopped()).await.unwrap();
    assert_eq!(code, Some(H3_NO_ERROR.into()));
    assert_eq!(request.response().await.unwrap().status, 431);
}

/// The type is sent to the task that drains it.
#[test]
fn body_is_sent_between_threads() {
    fn is_sent<T: Send + 'static>() {}
    is_sent::<RequestBody<quic::RecvStream>>();
    is_sent::<Arc<RequestBodyError>>();
}
