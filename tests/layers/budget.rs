//! A budget in bytes for all bodies.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, channel::Channel};
#[cfg(feature = "tracing")]
use testkit::log::logged;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_bodyguard::{
    BodyBudget, BodyBudgetConfig, BodyGuardLayer, BoxError, Counters, GuardedBody, KIB, Limit, MIB,
    Refusal, limit::RefusalKind,
};

type Incoming = Channel<Bytes, Infallible>;

/// Reads its body, and responds when the body has ended.
async fn read<B>(request: Request<GuardedBody<B>>) -> Result<Response<Full<Bytes>>, BoxError>
where
    B: Body + Send,
    B::Error: Into<BoxError>,
    B::Data: Send,
{
    let _ = request.into_body().collect().await?;
    Ok(Response::new(Full::default()))
}

/// A body of unknown length, and its sender.
fn streamed() -> (http_body_util::channel::Sender<Bytes>, Request<Incoming>) {
    let (sender, body) = Channel::new(1);
    (sender, Request::new(body))
}

fn sized(length: u64) -> Request<Full<Bytes>> {
    Request::new(Full::from(vec![0; length as usize]))
}

/// Polls a future once.
async fn begins<F: Future>(future: &mut std::pin::Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

#[tokio::test]
async fn body_without_room_is_refused_with_503_until_another_has_ended() {
    let budget = BodyBudget::max_bytes(10 * KIB);
    let counters = Counters::default();
    let layer = BodyGuardLayer::new(MIB)
        .budget(&budget)
        .observer(counters.observer());
    // A service whose first request does not end.
    let waits = Arc::new(AtomicBool::new(true));
    let mut service = layer.layer(service_fn(move |request| {
        let waits = waits.swap(false, Ordering::SeqCst);
        async move {
            if waits {
                std::future::pending::<()>().await;
            }
            read(request).await
        }
    }));
    let mut held = pin!(service.call(sized(6 * KIB)));
    assert!(begins(&mut held).await.is_pending());
    assert_eq!(budget.used_bytes(), 6 * KIB);

    let refused = service.call(sized(5 * KIB)).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()[RETRY_AFTER], "1");
    let refusal = refused.extensions().get::<Refusal>().unwrap();
    assert!(matches!(refusal.kind(), RefusalKind::OverBudget { .. }));
    assert_eq!(counters.snapshot().refused.over_budget, 1);

    let fits = service.call(sized(4 * KIB)).await.unwrap();
    assert_eq!(fits.status(), StatusCode::OK);
    assert_eq!(budget.used_bytes(), 6 * KIB);
    // The client goes away: the future is dropped.
    held.set(service.call(sized(0)));
    assert_eq!(budget.used_bytes(), 0);
}

#[tokio::test]
async fn room_is_free_again_however_a_request_ends() {
    let budget = BodyBudget::max_bytes(MIB);
    let layer = BodyGuardLayer::new(MIB).budget(&budget);
    let fails = layer.layer(service_fn(|_: Request<GuardedBody<Full<Bytes>>>| async {
        Err::<Response<Full<Bytes>>, BoxError>("it fails".into())
    }));
    assert!(fails.oneshot(sized(MIB)).await.is_err());
    assert_eq!(budget.used_bytes(), 0);

    let panics = layer.layer(service_fn(|_: Request<GuardedBody<Full<Bytes>>>| async {
        if true {
            panic!("as handlers do");
        }
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    }));
    let panicked = tokio::spawn(panics.oneshot(sized(MIB))).await;
    assert!(panicked.unwrap_err().is_panic());
    assert_eq!(budget.used_bytes(), 0);

    // The body outlives the response, in another task.
    let kept = Arc::new(std::sync::Mutex::new(None));
    let keeps = layer.layer(service_fn(|request: Request<GuardedBody<Incoming>>| {
        *kept.lock().unwrap() = Some(request.into_body());
        async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) }
    }));
    let (mut sender, request) = streamed();
    keeps.oneshot(request).await.unwrap();
    assert_eq!(budget.used_bytes(), 0);
    let mut body = kept.lock().unwrap().take().unwrap();
    for _ in 0..2 {
        sender.send_data(vec![0; 200 << 10].into()).await.unwrap();
        body.frame().await.unwrap().unwrap();
    }
    assert_eq!(budget.used_bytes(), 0);
}

#[tokio::test]
async fn body_of_unknown_length_reserves_as_it_comes() {
    let budget = BodyBudget::max_bytes(200 * KIB);
    let guard = BodyGuardLayer::new(MIB).budget(&budget);
    let mut service = guard.layer(service_fn(read::<Incoming>));
    let (mut one, request) = streamed();
    let mut first = pin!(service.call(request));
    let (mut other, request) = streamed();
    let mut second = pin!(service.call(request));
    assert_eq!(budget.used_bytes(), 128 * KIB);
    for _ in 0..2 {
        one.send_data(vec![0; 60 << 10].into()).await.unwrap();
        assert!(begins(&mut first).await.is_pending());
    }
    assert_eq!(budget.used_bytes(), 192 * KIB);
    // There is room for 8 KiB more, and then for none.
    other.send_data(vec![0; 70 << 10].into()).await.unwrap();
    assert!(begins(&mut second).await.is_pending());
    other.send_data(vec![0; 10 << 10].into()).await.unwrap();
    let Poll::Ready(Ok(refused)) = begins(&mut second).await else {
        panic!("it is refused");
    };
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(one);
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
    assert_eq!(budget.used_bytes(), 0);
}

#[tokio::test]
async fn body_longer_than_the_budget_is_refused_with_413() {
    let budget = BodyBudget::max_bytes(10 * KIB);
    let guard = BodyGuardLayer::new(MIB).budget(&budget);
    let service = guard.layer(service_fn(read::<Full<Bytes>>));
    let refused = service.oneshot(sized(11 * KIB)).await.unwrap();
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let refusal = refused.extensions().get::<Refusal>().unwrap();
    assert_eq!(refusal.limit(), Some(10 * KIB));

    let (mut sender, request) = streamed();
    let service = guard.layer(service_fn(read::<Incoming>));
    let response = tokio::spawn(service.oneshot(request));
    sender.send_data(vec![0; 11 << 10].into()).await.unwrap();
    let refused = response.await.unwrap().unwrap();
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

/// A body that notes when it is read.
struct Noted(Arc<AtomicBool>, u64);

impl Body for Noted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.store(true, Ordering::SeqCst);
        let length = std::mem::take(&mut self.1);
        let frame = (length > 0).then(|| Ok(Frame::data(vec![0; length as usize].into())));
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.1)
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_wait_for_room_in_their_order_before_they_are_read() {
    let config = BodyBudgetConfig::new(10 * KIB).wait_timeout(Duration::from_secs(5));
    let budget = BodyBudget::new(config);
    let guard = BodyGuardLayer::new(MIB).budget(&budget);
    let mut service = guard.layer(service_fn(|request: Request<GuardedBody<Noted>>| async {
        let _ = request.into_body().collect().await?;
        sleep(Duration::from_secs(1)).await;
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
    }));
    let mut responses = Vec::new();
    let start = Instant::now();
    for length in [10, 8, 1] {
        let read = Arc::new(AtomicBool::new(false));
        let body = Noted(Arc::clone(&read), length * KIB);
        let response = tokio::spawn(service.call(Request::new(body)));
        tokio::task::yield_now().await;
        responses.push((read, response));
    }
    assert_eq!(budget.waiting(), 2);
    let mut read = responses
        .iter()
        .map(|(read, _)| read.load(Ordering::SeqCst));
    assert!(read.next().unwrap() && !read.next().unwrap() && !read.next().unwrap());
    for (_, response) in responses {
        assert_eq!(response.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    // The second and the third fit together.
    assert_eq!(start.elapsed().as_secs(), 2);
    assert_eq!((budget.waiting(), budget.used_bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn body_that_waits_too_long_is_refused_with_503() {
    let config = BodyBudgetConfig::new(10 * KIB)
        .wait_timeout(Duration::from_secs(5))
        .retry_after(Duration::from_secs(20));
    let budget = BodyBudget::new(config);
    let guard = BodyGuardLayer::new(MIB).budget(&budget);
    let mut service = guard.layer(service_fn(read::<Incoming>));
    let (_first, request) = streamed();
    let _held = tokio::spawn(service.call(request));
    let (_second, request) = streamed();
    let start = Instant::now();
    let refused = service.call(request).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()[RETRY_AFTER], "20");
    assert_eq!((start.elapsed().as_secs(), budget.waiting()), (5, 0));
    // One that is dropped while it waits is out of the way.
    let (_third, request) = streamed();
    let mut dropped = Box::pin(service.call(request));
    assert!(begins(&mut dropped.as_mut()).await.is_pending());
    assert_eq!(budget.waiting(), 1);
    drop(dropped);
    assert_eq!(budget.waiting(), 0);
}

#[tokio::test]
async fn client_with_all_of_its_share_is_refused_and_others_are_not() {
    let config = BodyBudgetConfig::new(100 * KIB)
        .wait_timeout(Duration::from_secs(60))
        .max_share(10 * KIB, |head| head.headers.get("authorization").cloned());
    let budget = BodyBudget::new(config);
    let guard = BodyGuardLayer::new(MIB).budget(&budget);
    let mut service = guard.layer(service_fn(read::<Incoming>));
    let of = |client: &str| {
        let (sender, mut request) = streamed();
        request
            .headers_mut()
            .insert("authorization", client.parse().unwrap());
        (sender, request)
    };
    // A body of unknown length begins with 64 KiB, or with the whole share if that is less.
    let (_sender, request) = of("a");
    let mut first = Box::pin(service.call(request));
    assert!(begins(&mut first.as_mut()).await.is_pending());
    assert_eq!(budget.used_bytes(), 10 * KIB);
    let (_sender, request) = of("a");
    let refused = service.call(request).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(first);
    let mut sized = guard.layer(service_fn(|_: Request<GuardedBody<Full<Bytes>>>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    }));
    let upload = |client: &str, length: u64| {
        let mut request = self::sized(length);
        request
            .headers_mut()
            .insert("authorization", client.parse().unwrap());
        request
    };
    let mut held = Box::pin(sized.call(upload("a", 6 * KIB)));
    assert!(begins(&mut held.as_mut()).await.is_pending());
    let refused = sized.call(upload("a", 5 * KIB)).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let mut other = Box::pin(sized.call(upload("b", 10 * KIB)));
    assert!(begins(&mut other.as_mut()).await.is_pending());
    let mut without = Box::pin(sized.call(self::sized(80 * KIB)));
    assert!(begins(&mut without.as_mut()).await.is_pending());
    drop((held, other, without));
    assert_eq!(budget.used_bytes(), 0);
}

#[tokio::test]
async fn limit_without_budget_and_bodiless_requests_need_no_room() {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let asks = Arc::clone(&asked);
    let config = BodyBudgetConfig::new(KIB).max_share(KIB, move |_| {
        asks.fetch_add(1, Ordering::SeqCst);
        Some(())
    });
    let budget = BodyBudget::new(config);
    let limit = Limit::from_fn(|head| match head.uri.path() {
        "/stream" => Limit::max(MIB).without_budget(),
        _ => Limit::max(MIB),
    });
    let guard = BodyGuardLayer::new(limit).budget(&budget);
    let service = guard.layer(service_fn(read::<Full<Bytes>>));
    let mut streamed = sized(100 * KIB);
    *streamed.uri_mut() = "/stream".parse().unwrap();
    let served = service.clone().oneshot(streamed).await.unwrap();
    assert_eq!(served.status(), 200);
    let bodiless = service.clone().oneshot(sized(0)).await.unwrap();
    assert_eq!(bodiless.status(), 200);
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    let refused = service.oneshot(sized(100 * KIB)).await.unwrap();
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "once for a body");
}

/// It would never find room, no matter when the client tries again.
#[tokio::test]
async fn body_longer_than_the_share_of_its_client_is_refused_with_413() {
    let config =
        BodyBudgetConfig::new(MIB).max_share(10 * KIB, |head| head.headers.get("client").cloned());
    let guard = BodyGuardLayer::new(MIB).budget(&BodyBudget::new(config));
    let service = guard.layer(service_fn(read::<Full<Bytes>>));
    let of_client = |length| {
        let mut request = sized(length);
        request.headers_mut().insert("client", 1.into());
        service.clone().oneshot(request)
    };
    assert_eq!(of_client(10 * KIB).await.unwrap().status(), 200);
    let refused = of_client(10 * KIB + 1).await.unwrap();
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let refusal = refused.extensions().get::<Refusal>().unwrap();
    assert_eq!(refusal.limit(), Some(10 * KIB));
    let without_key = service.clone().oneshot(sized(10 * KIB + 1)).await;
    assert_eq!(without_key.unwrap().status(), 200);
}

/// A large body that waits does not reserve the room that is free until it has all of its own.
#[tokio::test(start_paused = true)]
async fn body_in_progress_takes_room_before_those_that_wait() {
    let config = BodyBudgetConfig::new(200 * KIB).wait_timeout(Duration::from_secs(60));
    let budget = BodyBudget::new(config);
    let guard = BodyGuardLayer::new(MIB).budget(&budget);
    let mut service = guard.layer(service_fn(read::<Incoming>));
    let (mut sender, request) = streamed();
    let mut first = Box::pin(service.call(request));
    assert!(begins(&mut first.as_mut()).await.is_pending());
    let mut sizes = guard.layer(service_fn(read::<Full<Bytes>>));
    let waits = tokio::spawn(sizes.call(sized(190 * KIB)));
    while budget.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(budget.used_bytes(), 64 * KIB);
    for _ in 0..2 {
        sender.send_data(vec![0; 60 << 10].into()).await.unwrap();
        assert!(begins(&mut first.as_mut()).await.is_pending());
    }
    assert_eq!(budget.used_bytes(), 128 * KIB);
    drop(sender);
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
    assert_eq!(waits.await.unwrap().unwrap().status(), StatusCode::OK);
}

/// Unread bodies that wait would fill the window of the connection.
#[tokio::test]
async fn http2_bodies_do_not_wait() {
    let config = BodyBudgetConfig::new(10 * KIB).wait_timeout(Duration::from_secs(60));
    let budget = BodyBudget::new(config);
    let guard = BodyGuardLayer::new(MIB).budget(&budget);
    let mut service = guard.layer(service_fn(read::<Incoming>));
    let request = || {
        let (sender, mut request) = streamed();
        *request.version_mut() = http::Version::HTTP_2;
        (sender, request)
    };
    let (_first, held) = request();
    let mut held = Box::pin(service.call(held));
    assert!(begins(&mut held.as_mut()).await.is_pending());
    let (_second, refused) = request();
    let refused = service.call(refused).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
}

/// Requests that wait would otherwise occupy the queue without end.
#[tokio::test]
async fn bodies_that_wait_count_in_the_share_of_their_client() {
    let config = BodyBudgetConfig::new(10 * KIB)
        .wait_timeout(Duration::from_secs(60))
        .max_share(10 * KIB, |_| Some("everyone"));
    let budget = BodyBudget::new(config);
    let guard = BodyGuardLayer::new(MIB).budget(&budget);
    let mut service = guard.layer(service_fn(|_: Request<GuardedBody<Full<Bytes>>>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    }));
    let _held = service.call(sized(6 * KIB));
    let _fits_the_share = service.call(sized(4 * KIB));
    let refused = service.call(sized(KIB)).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
}

/// The handler has polled its body, keeps it, and responds.
#[tokio::test]
async fn response_ends_the_wait_of_a_body() {
    let config = BodyBudgetConfig::new(10 * KIB).wait_timeout(Duration::from_secs(60));
    let budget = BodyBudget::new(config);
    let guard = BodyGuardLayer::new(MIB).budget(&budget);
    let kept = Arc::new(std::sync::Mutex::new(None));
    let keep = Arc::clone(&kept);
    let mut service = guard.layer(service_fn(
        move |request: Request<GuardedBody<Incoming>>| {
            let keep = Arc::clone(&keep);
            async move {
                let mut body = Box::pin(request.into_body());
                let polled = poll_fn(|cx| Poll::Ready(body.as_mut().poll_frame(cx))).await;
                assert!(polled.is_pending());
                *keep.lock().unwrap() = Some(body);
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        },
    ));
    let mut holder = guard.layer(service_fn(|_: Request<GuardedBody<Full<Bytes>>>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    }));
    let held = holder.call(sized(10 * KIB));
    let (mut sender, request) = streamed();
    let response = service.call(request).await.unwrap();
    assert_eq!((response.status(), budget.waiting()), (StatusCode::OK, 0));
    drop(held);
    assert_eq!(budget.used_bytes(), 0);
    // Its bytes pass without room, because the service has responded.
    let mut body = kept.lock().unwrap().take().unwrap();
    sender.send_data(vec![0; 9 << 10].into()).await.unwrap();
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(budget.used_bytes(), 0);
}

/// The time limits of the layer do not apply to it, and neither does the budget once the response
/// has begun.
#[tokio::test(start_paused = true)]
async fn body_without_a_limit_is_only_bound_by_the_budget() {
    let budget = BodyBudget::max_bytes(10 * KIB);
    let guard = BodyGuardLayer::new(Limit::unlimited())
        .budget(&budget)
        .idle_timeout(Duration::from_secs(1))
        .deadline(Duration::from_secs(2));
    let mut service = guard.layer(service_fn(
        |request: Request<GuardedBody<Incoming>>| async {
            Ok::<_, Infallible>(Response::new(request.into_body()))
        },
    ));
    let (mut sender, request) = streamed();
    let mut echo = service.call(request).await.unwrap().into_body();
    for _ in 0..3 {
        sleep(Duration::from_secs(3600)).await;
        sender.send_data(vec![0; 8 << 10].into()).await.unwrap();
        assert!(echo.frame().await.unwrap().is_ok());
    }
    // Before the response, it may become as long as the budget.
    let mut service = guard.layer(service_fn(read::<Incoming>));
    let (mut sender, request) = streamed();
    let response = tokio::spawn(service.call(request));
    sender.send_data(vec![0; 11 << 10].into()).await.unwrap();
    let refused = response.await.unwrap().unwrap();
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let refusal = refused.extensions().get::<Refusal>().unwrap();
    assert_eq!(refusal.limit(), Some(10 * KIB));
}

/// A handler's own response would say that the body is too large.
#[tokio::test]
async fn refusal_for_want_of_room_replaces_even_a_kept_response() {
    let budget = BodyBudget::max_bytes(100 * KIB);
    let guard = BodyGuardLayer::new(MIB).budget(&budget);
    let mut holder = guard.layer(service_fn(|_: Request<GuardedBody<Full<Bytes>>>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    }));
    let _held = holder.call(sized(30 * KIB));
    let keeps = guard.clone().keep_handler_response();
    let mut service = keeps.layer(service_fn(
        |request: Request<GuardedBody<Incoming>>| async {
            let result = request.into_body().collect().await;
            let mut response = Response::new(Full::<Bytes>::default());
            if result.is_err() {
                *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            }
            Ok::<_, Infallible>(response)
        },
    ));
    let (mut sender, request) = streamed();
    let response = tokio::spawn(service.call(request));
    sender.send_data(vec![0; 80 << 10].into()).await.unwrap();
    let refused = response.await.unwrap().unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key(RETRY_AFTER));
}

/// The server makes the client wait, so that time is not the client's.
#[tokio::test(start_paused = true)]
async fn deadline_starts_when_a_body_has_its_room() {
    let config = BodyBudgetConfig::new(10 * KIB).wait_timeout(Duration::from_secs(60));
    let budget = BodyBudget::new(config);
    let guard = BodyGuardLayer::new(MIB).budget(&budget);
    let mut holder = guard.layer(service_fn(|_: Request<GuardedBody<Full<Bytes>>>| async {
        sleep(Duration::from_secs(10)).await;
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    }));
    let _held = tokio::spawn(holder.call(sized(10 * KIB)));
    let guard = guard.deadline(Duration::from_secs(3));
    let (_sender, request) = streamed();
    let start = Instant::now();
    let mut service = guard.layer(service_fn(read::<Incoming>));
    let refused = service.call(request).await.unwrap();
    assert_eq!(refused.status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(start.elapsed().as_secs(), 13);
}

#[cfg(feature = "tracing")]
#[test]
fn nested_layers_with_one_budget_are_logged_once() {
    let log = logged(async {
        let budget = BodyBudget::max_bytes(MIB);
        let guard = || BodyGuardLayer::new(MIB).budget(&budget);
        let inner = guard().layer(service_fn(read::<GuardedBody<Full<Bytes>>>));
        // Polled later, as routers poll the services inside.
        let later = service_fn(move |request| {
            let inner = inner.clone();
            async move { inner.oneshot(request).await }
        });
        let mut nested = guard().layer(later);
        for _ in 0..2 {
            let response = nested.call(sized(KIB)).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
    });
    assert_eq!(log.matches("have the same budget").count(), 1, "{log}");

    // One after the other is no nesting.
    let log = logged(async {
        let budget = BodyBudget::max_bytes(MIB);
        let guard = BodyGuardLayer::new(MIB).budget(&budget);
        let mut service = guard.layer(service_fn(read::<Full<Bytes>>));
        let (one, two) = (service.call(sized(KIB)), service.call(sized(KIB)));
        assert_eq!(one.await.unwrap().status(), StatusCode::OK);
        assert_eq!(two.await.unwrap().status(), StatusCode::OK);
    });
    assert_eq!(log, "");
}

#[test]
#[should_panic(expected = "a budget of 0 bytes refuses all bodies")]
fn budget_of_nothing_panics() {
    let _ = BodyBudget::max_bytes(0);
}

/// A call without room may be repeated after a while, and one that is too long never.
#[tokio::test]
async fn refused_grpc_call_says_whether_to_repeat_it() {
    let call = |length: u64| {
        let request = Request::post("/a.B/C")
            .version(http::Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("content-length", length);
        request.body(Full::from(vec![0; length as usize])).unwrap()
    };
    let budget =
        BodyBudget::new(BodyBudgetConfig::new(10 * KIB).retry_after(Duration::from_millis(1500)));
    let guard = BodyGuardLayer::new(MIB).budget(&budget);
    let mut service = guard.layer(service_fn(|_: Request<GuardedBody<Full<Bytes>>>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    }));
    let mut held = pin!(service.call(call(6 * KIB)));
    assert!(begins(&mut held).await.is_pending());
    for (length, status, pushback) in [(5 * KIB, "14", "2000"), (11 * KIB, "8", "-1")] {
        let refused = service.call(call(length)).await.unwrap();
        assert_eq!(refused.headers()["grpc-status"], status);
        assert_eq!(refused.headers()["grpc-retry-pushback-ms"], pushback);
    }
}
