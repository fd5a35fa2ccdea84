//! G8: no cost when nothing is refused. Allocations are counted over a plain tower service,
//! lingering connections by their counter.
#![cfg(feature = "axum")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use allocation_counter::measure;
use axum::{Router, http::StatusCode, routing::post};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full};
use testkit::{
    LARGE, SendFirst,
    client::{Framing, PATIENCE},
};
use tower::{Layer, Service, service_fn};
use tower_bodyguard::{BodyGuardLayer, DeliveryLayer, Limit, Linger, LingerConfig};

use crate::server::Server;

/// Reads the body frame by frame and sends an empty response.
async fn read<B>(request: Request<B>) -> Result<Response<Empty<Bytes>>, Infallible>
where
    B: Body + Unpin,
{
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    Ok(Response::new(Empty::new()))
}

/// A body in one piece. Its framing decides whether its length is declared, as with chunked coding
/// it is not.
struct Content {
    inner: Full<Bytes>,
    framing: Framing,
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::ContentLength => self.inner.size_hint(),
            Framing::Chunked => SizeHint::default(),
        }
    }
}

/// Returns how many allocations a request costs, from the call to the dropped response.
fn allocations<S, ReqB, ResB>(service: &mut S, body: ReqB) -> u64
where
    S: Service<Request<ReqB>, Response = Response<ResB>, Error = Infallible>,
{
    let cx = &mut Context::from_waker(Waker::noop());
    let request = Request::post("/").body(body).unwrap();
    let counted = measure(|| {
        let mut future = pin!(service.call(request));
        match future.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => assert_eq!(response.status(), StatusCode::OK),
            _ => panic!("it has nothing to wait for"),
        }
    });
    counted.count_total
}

fn nothing() -> Content {
    Content {
        inner: Full::default(),
        framing: Framing::ContentLength,
    }
}

fn content(framing: Framing) -> Content {
    Content {
        inner: Full::from(vec![0; 100_000]),
        framing,
    }
}

#[test]
fn the_meter_counts() {
    let mut none = service_fn(read);
    assert_eq!(allocations(&mut none, content(Framing::Chunked)), 0);
    let mut one = service_fn(|request| {
        std::hint::black_box(Box::new(1));
        read(request)
    });
    assert_eq!(allocations(&mut one, content(Framing::Chunked)), 1);
}

/// A body that declares a length within the limit cannot be refused.
#[test]
fn a_guard_costs_one_allocation_where_the_length_is_unknown() {
    let mut guarded = BodyGuardLayer::new(1 << 20).layer(service_fn(read));
    assert_eq!(allocations(&mut guarded, nothing()), 0);
    assert_eq!(
        allocations(&mut guarded, content(Framing::ContentLength)),
        0
    );
    assert_eq!(allocations(&mut guarded, content(Framing::Chunked)), 1);
}

#[test]
fn delivery_costs_one_allocation_where_there_is_a_body() {
    let mut delivered = DeliveryLayer::default().layer(service_fn(read));
    assert_eq!(allocations(&mut delivered, nothing()), 0);
    assert_eq!(
        allocations(&mut delivered, content(Framing::ContentLength)),
        1
    );
    assert_eq!(allocations(&mut delivered, content(Framing::Chunked)), 1);
}

#[test]
fn both_parts_cost_one_each() {
    let guarded = BodyGuardLayer::new(1 << 20).layer(service_fn(read));
    let mut both = DeliveryLayer::default().layer(guarded);
    assert_eq!(allocations(&mut both, nothing()), 0);
    assert_eq!(allocations(&mut both, content(Framing::ContentLength)), 1);
    assert_eq!(allocations(&mut both, content(Framing::Chunked)), 2);
}

#[test]
fn axums_own_bodies_are_handed_on_where_there_is_nothing_to_count() {
    async fn read(request: Request<axum::body::Body>) -> Result<Answer, Infallible> {
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        Ok(Response::new(axum::body::Body::empty()))
    }
    type Answer = Response<axum::body::Body>;

    let mut none = service_fn(read);
    let guarded = BodyGuardLayer::axum(1 << 20);
    let mut guarded = guarded.layer(service_fn(read));
    // The limit is known in advance in one case and not in the other.
    let by_head = BodyGuardLayer::axum(Limit::from_fn(|_| Limit::max(1 << 20)));
    let mut by_head = by_head.layer(service_fn(read));
    for guarded in [
        allocations(&mut guarded, axum::body::Body::empty()),
        allocations(&mut by_head, axum::body::Body::empty()),
    ] {
        assert_eq!(guarded, allocations(&mut none, axum::body::Body::empty()));
    }
    // The first extension of a request costs three allocations. The layer lifts axum's limit with
    // an extension.
    let one = || axum::body::Body::from(vec![0; 1000]);
    let unlimited = BodyGuardLayer::axum(Limit::unlimited());
    let mut unlimited = unlimited.layer(service_fn(read));
    let plain = allocations(&mut none, one());
    assert_eq!(allocations(&mut unlimited, one()), plain + 3);
    assert_eq!(allocations(&mut guarded, one()), plain + 3 + 1);
    // If extensions exist, the layer allocates once for its own and once to see whether a layer has
    // set a limit.
    let mut among_others = service_fn(|mut request: Request<axum::body::Body>| {
        request.extensions_mut().insert("of another layer");
        unlimited.call(request)
    });
    assert_eq!(allocations(&mut among_others, one()), plain + 3 + 2);
}

fn app() -> Router {
    Router::new()
        .route(
            "/read",
            post(|body: Bytes| async move { body.len().to_string() }),
        )
        .route("/early", post(|| async { StatusCode::UNAUTHORIZED }))
}

const MANY: u64 = 1000;

fn clean(addr: SocketAddr, framing: Framing) {
    SendFirst::post("/read", framing, 1000)
        .header("Connection: close")
        .to(addr)
        .assert_delivered(200);
}

fn refused(addr: SocketAddr) {
    // The smallest upload whose refusal closes, because there are many.
    SendFirst::post("/early", Framing::ContentLength, (1 << 20) + 1)
        .to(addr)
        .assert_delivered(401);
}

/// The server skips the linger only if it has evidence that everything was read.
#[test]
fn clean_closes_make_no_linger_and_refusals_make_one_each() {
    // The client reads up to the half-close, and a thousand waits for it would take minutes.
    let immediate = LingerConfig::new().half_close_timeout(Duration::ZERO);
    let server = Server::run_with(Linger::new(immediate), |listener, linger| async move {
        tower_bodyguard::axum::serve(listener, app())
            .with_linger(&linger)
            .await
            .unwrap();
    });
    for framing in [Framing::ContentLength, Framing::Chunked] {
        for _ in 0..MANY / 2 {
            clean(server.addr, framing);
        }
    }
    assert_eq!(server.linger.stats().started, 0);
    for _ in 0..MANY {
        refused(server.addr);
    }
    // A linger begins when the server is done, which may be after the client.
    let start = std::time::Instant::now();
    while server.linger.stats().delivered < MANY {
        assert!(start.elapsed() < PATIENCE, "{:?}", server.linger);
        std::thread::yield_now();
    }
    assert_eq!(server.linger.stats().started, MANY);
    assert_eq!(server.linger.stats().cut, 0);
}

/// Requests without a body are the most frequent ones.
#[test]
fn gets_make_no_linger() {
    let app = Router::new().route("/", axum::routing::get(|| async { "here" }));
    let server = Server::combined(app);
    for _ in 0..100 {
        let mut get = SendFirst::post("/", Framing::ContentLength, 0).header("Connection: close");
        get.method = "GET";
        get.to(server.addr).assert_delivered(200);
    }
    assert_eq!(server.linger.stats().started, 0);
}

/// This proves that the counter can change: without delivery, `LingerIo` knows less.
#[test]
fn alone_the_wrapper_lingers_on_every_close_of_the_server() {
    let server = Server::wrapped(app());
    for _ in 0..100 {
        clean(server.addr, Framing::ContentLength);
        SendFirst::post("/read", Framing::ContentLength, LARGE / 64)
            .header("Connection: close")
            .to(server.addr)
            .assert_delivered(200);
    }
    assert!(server.linger.stats().started > 0);
}
