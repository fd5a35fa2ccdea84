//! Delivery alone, with channels as bodies: how it handles each kind of unread body.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use http_body_util::{
    BodyExt, Empty,
    channel::{Channel, Sender},
};
use tokio::{runtime::Handle, sync::oneshot, time::sleep};
use tower::{Layer, ServiceExt, service_fn};
use tower_bodyguard::{
    DeliveryConfig, DeliveryLayer, Drain, StreamLinger,
    delivery::{DeliveredBody, TrackedBody},
};

type Upload = Channel<Bytes, Infallible>;
type Answer = Response<Empty<Bytes>>;

fn upload() -> (Sender<Bytes, Infallible>, Request<Upload>) {
    let (sender, body) = Channel::new(4);
    (sender, Request::post("/").body(body).unwrap())
}

fn ok() -> Answer {
    Response::new(Empty::new())
}

type Delivered = Response<DeliveredBody<Empty<Bytes>>>;

/// Passes a request and its `handler` through delivery and returns the response.
async fn deliver<F>(
    request: Request<Upload>,
    handler: impl FnOnce(Request<TrackedBody<Upload>>) -> F,
) -> Delivered
where
    F: Future<Output = Answer>,
{
    let mut handler = Some(handler);
    let service = service_fn(move |request| {
        let response = handler.take().expect("one request")(request);
        async { Ok::<_, Infallible>(response.await) }
    });
    DeliveryLayer::default()
        .layer(service)
        .oneshot(request)
        .await
        .unwrap()
}

fn says_close(response: &Delivered) -> bool {
    response
        .headers()
        .get("connection")
        .is_some_and(|value| value == "close")
}

async fn one_frame(request: Request<TrackedBody<Upload>>) -> Answer {
    request.into_body().frame().await.unwrap().unwrap();
    ok()
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn a_rest_that_has_arrived_takes_no_task() {
    let (mut sender, request) = upload();
    for _ in 0..3 {
        sender
            .send_data(Bytes::from_static(b"all there is"))
            .await
            .unwrap();
    }
    drop(sender);
    let response = deliver(request, one_frame).await;
    assert!(!says_close(&response));
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_rest_that_comes_later_takes_one() {
    let (mut sender, request) = upload();
    sender
        .send_data(Bytes::from_static(b"more will come"))
        .await
        .unwrap();
    let response = deliver(request, one_frame).await;
    assert!(!says_close(&response));
    assert_eq!(tasks(), 1);
    sender
        .send_data(Bytes::from_static(b"the last"))
        .await
        .unwrap();
    drop(sender);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn unread_body_without_a_request_for_it_is_left_alone() {
    let (mut sender, request) = upload();
    sender
        .send_data(Bytes::from_static(b"of a length unknown"))
        .await
        .unwrap();
    let response = deliver(request, |_| async { ok() }).await;
    assert!(says_close(&response));
    // Without a lingering socket, delivery drains to get the response out, but not permanently.
    assert_eq!(tasks(), 1);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(tasks(), 0);
    assert!(
        sender.send_data(Bytes::new()).await.is_err(),
        "the body is dropped"
    );
}

#[tokio::test(start_paused = true)]
async fn body_that_was_read_to_its_end_is_untracked() {
    let (mut sender, request) = upload();
    sender
        .send_data(Bytes::from_static(b"all there is"))
        .await
        .unwrap();
    drop(sender);
    let response = deliver(request, |request| async {
        request.into_body().collect().await.unwrap();
        ok()
    })
    .await;
    assert!(!says_close(&response));
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn body_that_is_held_is_left_alone_until_it_is_released() {
    let (mut sender, request) = upload();
    let (let_go, letting_go) = oneshot::channel();
    let response = deliver(request, |request| async {
        let mut body = request.into_body();
        tokio::spawn(async move {
            body.frame().await.unwrap().unwrap();
            letting_go.await.unwrap();
        });
        ok()
    })
    .await;
    assert!(!says_close(&response));
    sender
        .send_data(Bytes::from_static(b"for the handler's task"))
        .await
        .unwrap();
    let_go.send(()).unwrap();
    sleep(Duration::from_millis(1)).await;
    // The handler's task is done, so the drain reads now.
    assert_eq!(tasks(), 1);
    for _ in 0..10 {
        sender
            .send_data(Bytes::from_static(b"for the drain"))
            .await
            .unwrap();
    }
    drop(sender);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_switch_of_protocols_is_let_alone() {
    let (sender, request) = upload();
    let response = deliver(request, |_| async {
        let mut response = ok();
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response
    })
    .await;
    assert!(!says_close(&response));
    assert_eq!(tasks(), 0);
    drop(sender);
}

/// `Connection` is a header of HTTP/1 only, and closing a stream closes no connection. Once the
/// response is sent, the stream's body is drained for a while and then dropped.
#[tokio::test(start_paused = true)]
async fn a_stream_of_http_2_lingers() {
    let (mut sender, mut request) = upload();
    *request.version_mut() = Version::HTTP_2;
    let response = deliver(request, |_| async { ok() }).await;
    assert!(!says_close(&response));
    // While the response is in progress, the body is read to return the connection's window.
    sleep(Duration::from_secs(10)).await;
    assert!(sender.send_data(Bytes::from_static(b"read")).await.is_ok());
    drop(response);
    sleep(Duration::from_millis(900)).await;
    assert!(sender.send_data(Bytes::from_static(b"read")).await.is_ok());
    sleep(Duration::from_secs(2)).await;
    assert!(
        sender.send_data(Bytes::new()).await.is_err(),
        "the body is dropped"
    );
    assert_eq!(tasks(), 0);
}

/// If no slot is free, the stream is held unread for a moment.
#[tokio::test(start_paused = true)]
async fn a_stream_without_a_place_is_held() {
    let (mut sender, mut request) = upload();
    *request.version_mut() = Version::HTTP_2;
    let none =
        DeliveryLayer::new(DeliveryConfig::new().stream_linger(StreamLinger::new().max_streams(0)));
    let unread = service_fn(|_: Request<TrackedBody<Upload>>| async { Ok::<_, Infallible>(ok()) });
    drop(none.layer(unread).oneshot(request).await.unwrap());
    sleep(Duration::from_millis(10)).await;
    for _ in 0..4 {
        assert!(
            sender
                .send_data(Bytes::from_static(b"unread"))
                .await
                .is_ok()
        );
    }
    assert!(
        sender.send_data(Bytes::new()).now_or_never().is_none(),
        "the body is not read"
    );
    sleep(Duration::from_millis(20)).await;
    assert!(
        sender.send_data(Bytes::new()).await.is_err(),
        "the body is dropped"
    );
}

/// One client has two faster streams and another has a slower one. Without a key, the slower one is
/// evicted for the fourth stream.
#[tokio::test(start_paused = true)]
async fn streams_beyond_slots_evict_lowest_rate_per_slot() {
    let streams = DeliveryConfig::new().stream_linger(StreamLinger::new().max_streams(3));
    let by_client = streams
        .clone()
        .peer_key(|head| head.headers.get("client").cloned());
    for (config, expected) in [
        (by_client, [false, true, true, true]),
        (streams, [true, true, false, true]),
    ] {
        let layer = DeliveryLayer::new(config);
        let mut senders = Vec::new();
        for (client, bytes) in [("one", 100), ("one", 200), ("two", 50), ("three", 1)] {
            let (mut sender, mut request) = upload();
            *request.version_mut() = Version::HTTP_2;
            request
                .headers_mut()
                .insert("client", client.parse().unwrap());
            let unread =
                service_fn(|_: Request<TrackedBody<Upload>>| async { Ok::<_, Infallible>(ok()) });
            drop(layer.clone().layer(unread).oneshot(request).await.unwrap());
            sleep(Duration::from_millis(1)).await;
            for _ in 0..10 {
                let sent = sender.send_data(vec![0; bytes].into()).await;
                sent.expect("it has a slot");
            }
            sleep(Duration::from_millis(1)).await;
            senders.push(sender);
        }
        let mut is_read = Vec::new();
        for sender in &mut senders {
            is_read.push(sender.send_data(Bytes::new()).await.is_ok());
        }
        assert_eq!(is_read, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_client_is_not_asked() {
    let (mut sender, mut request) = upload();
    request
        .headers_mut()
        .insert("expect", "100-continue".parse().unwrap());
    let response = deliver(request, |_| async { ok() }).await;
    assert!(says_close(&response));
    assert_eq!(tasks(), 0);
    assert!(
        sender.send_data(Bytes::new()).await.is_err(),
        "the body is dropped without a 100"
    );
}

/// An extractor drops the body on an error of the body or of its own.
#[tokio::test(start_paused = true)]
async fn a_body_dropped_on_an_error_is_not_lost() {
    let (mut sender, request) = upload();
    sender
        .send_data(Bytes::from_static(b"{ not json"))
        .await
        .unwrap();
    let response = deliver(request, |request| async {
        let mut body = request.into_body();
        let _ = body.frame().await;
        drop(body);
        let mut response = ok();
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
        response
    })
    .await;
    assert!(!says_close(&response));
    sender
        .send_data(Bytes::from_static(b"the rest"))
        .await
        .unwrap();
    drop(sender);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_drain_nothing_is_waited_for() {
    let (_sender, request) = upload();
    let none =
        DeliveryLayer::new(DeliveryConfig::new().drain(Drain::new().timeout(Duration::ZERO)));
    let service = service_fn(|request: Request<TrackedBody<Upload>>| async move {
        drop(request);
        Ok::<_, Infallible>(ok())
    });
    let response = none.layer(service).oneshot(request).await.unwrap();
    assert!(says_close(&response));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(tasks(), 0);
}

/// The inner body reports the hints of the outer one.
#[tokio::test]
async fn hints_pass() {
    let service = service_fn(
        |request: Request<TrackedBody<http_body_util::Full<Bytes>>>| async move {
            assert_eq!(request.body().size_hint().exact(), Some(5));
            assert!(!request.body().is_end_stream());
            Ok::<_, Infallible>(ok())
        },
    );
    let request = Request::post("/")
        .body(http_body_util::Full::from("hello"))
        .unwrap();
    DeliveryLayer::default()
        .layer(service)
        .oneshot(request)
        .await
        .unwrap();
}

/// Reading without a task is limited, too. At the limit, the response is sent with `Connection:
/// close`.
#[tokio::test(start_paused = true)]
async fn a_rest_without_an_end_does_not_hold_the_response() {
    use http_body::Frame;
    use http_body_util::StreamBody;

    let endless = StreamBody::new(futures_util::stream::repeat_with(|| {
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 4096])))
    }));
    type Endless<F> = StreamBody<futures_util::stream::RepeatWith<F>>;
    async fn one<F>(request: Request<TrackedBody<Endless<F>>>) -> Result<Answer, Infallible>
    where
        Endless<F>: Body<Data = Bytes, Error = Infallible> + Unpin,
    {
        request.into_body().frame().await.unwrap().unwrap();
        Ok(ok())
    }
    let service = DeliveryLayer::default().layer(service_fn(one));
    let request = Request::post("/").body(endless).unwrap();
    let response = service.oneshot(request).await.unwrap();
    assert!(says_close(&response));
}

/// The options that a handler set stay beside `close`.
#[tokio::test(start_paused = true)]
async fn close_is_said_beside_what_the_handler_said() {
    let (_sender, request) = upload();
    let response = deliver(request, |_| async {
        let mut response = ok();
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        response
            .headers_mut()
            .insert("connection", "upgrade".parse().unwrap());
        response
    })
    .await;
    let said: Vec<_> = response.headers().get_all("connection").iter().collect();
    assert_eq!(said, ["upgrade", "close"]);
}
