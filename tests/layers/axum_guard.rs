//! `BodyGuardLayer::axum`: what it shares with `BodyGuardLayer::new`, and what is specific to axum.
#![cfg(feature = "axum")]

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{DefaultBodyLimit, Multipart, multipart::MultipartError},
    http::{Method, Request, Response, StatusCode, Version},
    response::IntoResponse,
    routing::post,
};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_bodyguard::{
    BodyGuardLayer, Event, KIB, Limit, MIB, Observer, Refusal,
    limit::{ProblemJson, RefusalKind},
};

use crate::server::counting;

/// Returns a body with this many bytes and no declared length.
fn stream(bytes: u64) -> Body {
    let frame = vec![b'0'; usize::try_from(bytes).unwrap()];
    Body::from_stream(futures_util::stream::iter([Ok::<_, Infallible>(frame)]))
}

async fn first_field(mut form: Multipart) -> Result<String, MultipartError> {
    let field = form.next_field().await?;
    field.expect("there is one").text().await
}

async fn count(body: Bytes) -> String {
    body.len().to_string()
}

/// A limit layer around the app applies before routing and to any body type inside.
#[tokio::test]
async fn around_an_app_it_guards_all_of_it() {
    let app = Router::new()
        .route("/", post(count))
        .route("/within", post(count).layer(DefaultBodyLimit::max(10)));
    let app = BodyGuardLayer::axum(4 * MIB).layer(app);
    let send = |path: &str, length: usize| {
        let body = Full::from(vec![b'0'; length]);
        app.clone().oneshot(Request::post(path).body(body).unwrap())
    };
    for (path, length, status) in [
        ("/", 0, 200),
        ("/", 3 << 20, 200),
        ("/", (4 << 20) + 1, 413),
        ("/nowhere", 1, 404),
        ("/within", 10, 200),
        ("/within", 11, 413),
    ] {
        let response = send(path, length).await.unwrap();
        assert_eq!(response.status(), status, "{path}, {length} bytes");
    }
    // The head alone decides, even if there is no such route.
    let declares = Request::post("/nowhere").header("content-length", 5 * MIB);
    let response = app.clone().oneshot(declares.body(Body::empty()).unwrap());
    assert_eq!(response.await.unwrap().status(), 413);
    let streams = Request::post("/").body(stream(5 * MIB)).unwrap();
    assert_eq!(app.oneshot(streams).await.unwrap().status(), 413);
}

/// A closure's response has axum's body type, whatever body type the inner service has.
#[tokio::test]
async fn refusals_are_in_axums_body() {
    let bytes = service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("accepted")))
    });
    let guard = BodyGuardLayer::axum(KIB)
        .refusal_response(|r: &Refusal| (r.status(), "mine").into_response())
        .layer(bytes);
    for (bytes, status, text) in [(KIB, 200, "accepted"), (KIB + 1, 413, "mine")] {
        let body = Body::from(vec![0; usize::try_from(bytes).unwrap()]);
        let request = Request::post("/").header("content-length", bytes);
        let response = guard.clone().oneshot(request.body(body).unwrap());
        let response: Response<Body> = response.await.unwrap();
        assert_eq!(response.status(), status);
        let body = axum::body::to_bytes(response.into_body(), 100).await;
        assert_eq!(body.unwrap(), text);
    }
}

/// Both forms refuse alike: a response to HEAD has no body, a gRPC call gets its status, and the
/// observer sees each refusal.
#[tokio::test]
async fn it_refuses_as_the_other_one_does() {
    let told = Arc::new(AtomicUsize::new(0));
    let tell = Arc::clone(&told);
    let guard = BodyGuardLayer::axum(KIB)
        .refusal_response(ProblemJson)
        .observer(Observer::new(move |event| {
            if let Event::Refused(refusal) = event {
                assert!(matches!(
                    refusal.kind(),
                    RefusalKind::Declared { length: 2048 }
                ));
                tell.fetch_add(1, Ordering::SeqCst);
            }
        }));
    let layered = counting().layer(guard.clone());
    let around = guard.layer(counting());
    let app = |path: &str| match path {
        "layered" => layered.clone().boxed_clone(),
        _ => around.clone().boxed_clone(),
    };
    for path in ["layered", "around"] {
        let ask = |method: Method, kind: &str| {
            let request = Request::builder().method(method).uri("/");
            let request = request.version(Version::HTTP_2);
            let request = request
                .header("content-length", 2 * KIB)
                .header("content-type", kind);
            app(path).oneshot(request.body(Body::from(vec![0; 2048])).unwrap())
        };
        let post = ask(Method::POST, "text/plain").await.unwrap();
        assert_eq!(post.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let kind = &post.headers()["content-type"];
        assert_eq!(kind, "application/problem+json");
        assert_eq!(
            post.extensions().get::<Refusal>().unwrap().limit(),
            Some(KIB)
        );

        let head = ask(Method::HEAD, "text/plain").await.unwrap();
        let length = head.headers()["content-length"].clone();
        assert_eq!(length, post.headers()["content-length"]);
        let body = axum::body::to_bytes(head.into_body(), 1000).await.unwrap();
        assert_eq!(body, "");

        let call = ask(Method::POST, "application/grpc").await.unwrap();
        assert_eq!(call.status(), StatusCode::OK);
        assert_eq!(call.headers()["grpc-status"], "8");
    }
    assert_eq!(told.load(Ordering::SeqCst), 6);
}

/// Extractors recognise the error even if several layers have wrapped the body.
#[tokio::test]
async fn within_other_guards_extractors_know_the_error() {
    let small = || BodyGuardLayer::axum(60).keep_handler_response();
    let large = || BodyGuardLayer::axum(MIB).keep_handler_response();
    let app = Router::new()
        .route("/bytes", post(count).layer(DefaultBodyLimit::max(1000)))
        .route("/multipart", post(first_field));
    let by_layers = app.clone().layer(large()).layer(small());
    let by_builder = app
        .clone()
        .layer(ServiceBuilder::new().layer(small()).layer(large()));
    let by_both = small().layer(app.layer(large()));
    let form =
        "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nmore than that\r\n--x--\r\n";
    for name in ["layers", "builder", "both"] {
        let app = match name {
            "layers" => by_layers.clone().boxed_clone(),
            "builder" => by_builder.clone().boxed_clone(),
            _ => by_both.clone().boxed_clone(),
        };
        let bytes = Request::post("/bytes").body(stream(100)).unwrap();
        let status = app.clone().oneshot(bytes).await.unwrap().status();
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{name}");

        let frames = futures_util::stream::iter([Ok::<_, Infallible>(form)]);
        let request = Request::post("/multipart");
        let request = request.header("content-type", "multipart/form-data; boundary=x");
        let request = request.body(Body::from_stream(frames)).unwrap();
        let status = app.oneshot(request).await.unwrap().status();
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{name}");
    }
}

/// Without a limit, the limit layer still checks the head, but does not touch the body.
#[tokio::test]
async fn no_limit_is_no_licence() {
    let app = Router::new().route("/", post(count));
    let app = BodyGuardLayer::axum(Limit::unlimited()).layer(app);
    let streams = Request::post("/").body(stream(5 * MIB)).unwrap();
    assert_eq!(app.clone().oneshot(streams).await.unwrap().status(), 200);
    let bad = Request::post("/").header("content-length", "many");
    let bad = bad.body(stream(1)).unwrap();
    assert_eq!(app.oneshot(bad).await.unwrap().status(), 400);
}

/// Among axum's limits, only its built-in 2 MB are lifted.
#[tokio::test]
async fn outer_default_body_limit_holds_inside_axum_guard() {
    let guarded = || {
        Router::new()
            .route("/", post(count))
            .layer(BodyGuardLayer::axum(4 * MIB))
    };
    // Exactly as large as the built-in limit.
    let as_built_in = 2_097_152;
    for (app, passes, refused) in [
        (guarded().layer(DefaultBodyLimit::max(1000)), 1000, 1001),
        (
            guarded().layer(DefaultBodyLimit::max(as_built_in)),
            2 * MIB,
            2 * MIB + 1,
        ),
        (
            guarded().layer(DefaultBodyLimit::max(1 << 30)),
            4 * MIB,
            4 * MIB + 1,
        ),
        (
            guarded().layer(DefaultBodyLimit::disable()),
            4 * MIB,
            4 * MIB + 1,
        ),
        (guarded(), 4 * MIB, 4 * MIB + 1),
        (
            guarded().layer(axum::Extension("of another layer")),
            4 * MIB,
            4 * MIB + 1,
        ),
    ] {
        for (bytes, status) in [(passes, 200), (refused, 413)] {
            let request = Request::post("/").body(stream(bytes)).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "{bytes} of {passes} bytes");
        }
    }
}

/// A body that reports its end and still yields frames.
struct Lying {
    left: usize,
    hint: SizeHint,
}

impl HttpBody for Lying {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let left = std::mem::take(&mut self.left);
        let frame = (left > 0).then(|| Ok(Frame::data(vec![0; left].into())));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

#[tokio::test]
async fn body_that_yields_after_its_end_is_counted() {
    async fn read(body: Body) -> StatusCode {
        match axum::body::to_bytes(body, usize::MAX).await {
            Ok(bytes) if bytes.is_empty() => StatusCode::NO_CONTENT,
            Ok(_) => StatusCode::OK,
            Err(_) => StatusCode::BAD_REQUEST,
        }
    }
    let app = || Router::new().route("/", post(read));
    let guard = || BodyGuardLayer::axum(10);
    let by_head = || BodyGuardLayer::axum(Limit::from_fn(|_| Limit::max(10)));
    for guarded in [
        guard().layer(app()).boxed_clone(),
        by_head().layer(app()).boxed_clone(),
        app().layer(guard()).boxed_clone(),
    ] {
        for (left, hint, status) in [
            (10, SizeHint::default(), 200),
            (11, SizeHint::default(), 400),
            // By its size hint, there is nothing to read.
            (11, SizeHint::with_exact(0), 204),
        ] {
            let body = Body::new(Lying { left, hint });
            let request = Request::post("/").body(body).unwrap();
            let response = guarded.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "{left} bytes");
        }
    }
}

/// The layer panics here. Otherwise no limit would apply, without any notice.
#[test]
#[should_panic(expected = "needs `Router::layer`")]
fn around_an_app_there_are_no_limits_by_route() {
    let limit = Limit::max(MIB).route("/login", KIB);
    let _ = BodyGuardLayer::axum(limit).layer(Router::<()>::new());
}

#[tokio::test]
async fn as_a_layer_it_knows_the_route() {
    let limit = Limit::max(MIB).route("/login", KIB);
    let app = Router::new()
        .route("/login", post(count))
        .route("/", post(count))
        .layer(BodyGuardLayer::axum(limit));
    for (path, status) in [("/login", 413), ("/", 200)] {
        let request = Request::post(path).body(stream(2 * KIB)).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
    }
}
