//! Limits as users set them: by route, by head, unlimited, and with axum's own limit lifted. Also
//! required lengths.
#![cfg(feature = "axum")]

use std::sync::{Arc, Mutex};

use axum::{
    Form, Json, Router,
    body::{Body, Bytes},
    extract::DefaultBodyLimit,
    http::{Method, Request, StatusCode},
    routing::{get, post, put},
};
use testkit::{
    MIB, SendFirst,
    client::{FRAMINGS, Framing},
    log::logged,
};
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_bodyguard::{
    BodyBudget, BodyGuardLayer, Event, KIB, Limit, Observer, Refusal, axum::RouteLimit,
    limit::RefusalKind,
};
use tower_http::{catch_panic::CatchPanicLayer, limit::RequestBodyLimitLayer, trace::TraceLayer};

use crate::server::{Server, counting, multipart};

async fn count(body: Bytes) -> String {
    body.len().to_string()
}

/// Returns the status for a body of this many bytes with no declared length.
async fn status(app: &Router, request: http::request::Builder, bytes: usize) -> StatusCode {
    let frames = futures_util::stream::iter(vec![Ok::<_, std::io::Error>(vec![b'0'; bytes])]);
    let request = request.body(Body::from_stream(frames)).unwrap();
    app.clone().oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn routes_have_limits_of_their_own() {
    let limit = Limit::max(10)
        .route("/upload", 100)
        .route("/items/{id}/photo", 50);
    let nested = Router::new().route("/photo", post(count));
    let app = Router::new()
        .route("/comment", post(count))
        .route("/upload", post(count))
        .nest("/items/{id}", nested)
        .layer(BodyGuardLayer::new(limit));
    for (path, limit) in [("/comment", 10), ("/upload", 100), ("/items/7/photo", 50)] {
        assert_eq!(
            status(&app, Request::post(path), limit).await,
            200,
            "{path}"
        );
        assert_eq!(
            status(&app, Request::post(path), limit + 1).await,
            413,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_layer_of_a_route_knows_its_route() {
    let limit = Limit::max(10).route("/upload", Limit::unlimited());
    let app = Router::new()
        .route("/comment", post(count))
        .route("/upload", post(count))
        .route_layer(BodyGuardLayer::new(limit));
    assert_eq!(status(&app, Request::post("/comment"), 11).await, 413);
    assert_eq!(status(&app, Request::post("/upload"), 11).await, 200);
}

/// Covers all ways in axum in which a request has no known route.
#[tokio::test]
async fn limit_by_route_without_a_route_is_the_smallest_of_all() {
    let limit = || Limit::max(100).route("/login", 10).route("/upload", 1000);
    let layer = || BodyGuardLayer::new(limit());
    let by_head = || BodyGuardLayer::new(Limit::from_fn(move |_| limit()));
    let app = || {
        Router::new()
            .route("/login", post(count))
            .route("/upload", post(count))
    };
    let around = |layer: BodyGuardLayer| ServiceBuilder::new().layer(layer).service(app());
    let apps = [
        ("around the router", "/login", {
            Router::new().fallback_service(around(layer()))
        }),
        ("by head, around the router", "/login", {
            Router::new().fallback_service(around(by_head()))
        }),
        ("by head, around an app", "/login", {
            let limit = Limit::from_fn(move |_| limit());
            Router::new().fallback_service(BodyGuardLayer::axum(limit).layer(app()))
        }),
        ("`nest_service`, layer inside", "/api/login", {
            Router::new().nest_service("/api", around(layer()))
        }),
        ("`nest_service`, layer outside", "/api/login", {
            Router::new().nest_service("/api", app()).layer(layer())
        }),
        ("`fallback_service`, layer outside", "/login", {
            Router::new().fallback_service(app()).layer(layer())
        }),
        ("a fallback", "/nowhere", {
            app().fallback(post(count)).layer(layer())
        }),
        ("a fallback of a nested router", "/api/nowhere", {
            let nested = app().fallback(post(count)).layer(layer());
            Router::new().nest("/api", nested)
        }),
    ];
    for (name, path, app) in apps {
        assert_eq!(status(&app, Request::post(path), 10).await, 200, "{name}");
        assert_eq!(status(&app, Request::post(path), 11).await, 413, "{name}");
    }
}

/// In a nested router, limits name routes relative to it or in full.
#[tokio::test]
async fn nested_router_has_the_limits_of_its_routes() {
    let routes = || {
        Router::new()
            .route("/", post(count))
            .route("/login", post(count))
    };
    let inner = || Router::new().nest("/v1", routes());
    let limit = |path| BodyGuardLayer::new(Limit::max(100).route(path, 10));
    let login = "/api/v1/login";
    let apps = [
        ("/login", login, {
            let inner = Router::new().nest("/v1", routes().layer(limit("/login")));
            Router::new().nest("/api", inner)
        }),
        ("/v1/login", login, {
            Router::new().nest("/api", inner().layer(limit("/v1/login")))
        }),
        ("/v1/login, route_layer", login, {
            Router::new().nest("/api/", inner().route_layer(limit("/v1/login")))
        }),
        ("in full, from inside", login, {
            Router::new().nest("/api", inner().layer(limit(login)))
        }),
        ("in full, from outside", login, {
            Router::new().nest("/api", inner()).layer(limit(login))
        }),
        ("the root", "/api/v1", {
            let inner = Router::new().nest("/v1", routes().layer(limit("/")));
            Router::new().nest("/api", inner)
        }),
        ("a router in `nest_service`", login, {
            let inner = Router::new().nest("/v1", routes().layer(limit("/login")));
            Router::new().nest_service("/api", inner)
        }),
        ("merged", "/login", {
            let other = Router::new().route("/other", post(count));
            other.merge(routes().layer(limit("/login")))
        }),
    ];
    for (name, path, app) in apps {
        assert_eq!(status(&app, Request::post(path), 10).await, 200, "{name}");
        assert_eq!(status(&app, Request::post(path), 11).await, 413, "{name}");
    }
    let both = Limit::max(1000).route("/login", 100).route(login, 10);
    let inner = Router::new().nest("/v1", routes().layer(BodyGuardLayer::new(both)));
    let app = Router::new().nest("/api", inner);
    assert_eq!(status(&app, Request::post(login), 11).await, 413);
    assert_eq!(status(&app, Request::post("/api/v1"), 1000).await, 200);
}

/// The route is known even if its method is not.
#[tokio::test]
async fn method_not_allowed_fallback_has_the_limit_of_its_route() {
    let app = Router::new()
        .route("/upload", get(|| async {}))
        .method_not_allowed_fallback(count)
        .layer(BodyGuardLayer::new(Limit::max(10).route("/upload", 20)));
    assert_eq!(status(&app, Request::post("/upload"), 20).await, 200);
    assert_eq!(status(&app, Request::post("/upload"), 21).await, 413);
}

#[tokio::test]
async fn layer_without_routes_tells_its_observer_once() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let observer = Observer::new({
        let told = Arc::clone(&told);
        move |event| {
            if let Event::RouteUnknown { path, limit } = event {
                told.lock().unwrap().push((path.to_string(), *limit));
            }
        }
    });
    let limit = Limit::max(100).route("/login", 10);
    let layer = BodyGuardLayer::new(limit).observer(observer);
    let app = Router::new()
        .route("/login", post(count))
        .fallback(post(count))
        .layer(layer);
    status(&app, Request::post("/login"), 5).await;
    let bodiless = Request::post("/a").body(Body::empty()).unwrap();
    app.clone().oneshot(bodiless).await.unwrap();
    assert!(told.lock().unwrap().is_empty());
    for path in ["/b", "/c"] {
        status(&app, Request::post(path), 5).await;
    }
    assert_eq!(*told.lock().unwrap(), [("/b".to_owned(), Some(10))]);
}

/// Sends requests to a route with a `RouteLimit`, and to a route without one.
#[tokio::test]
async fn limit_of_a_route_holds_wherever_the_route_is() {
    let limited = || post(count).layer(RouteLimit::new(20));
    let guard = || BodyGuardLayer::axum(10);
    let plain = || Router::new().route("/", post(count));
    let apps = [
        ("a route", "/upload", {
            plain().route("/upload", limited()).layer(guard())
        }),
        ("`route_layer`", "/upload", {
            plain().route("/upload", limited()).route_layer(guard())
        }),
        ("a nested route", "/api/upload", {
            let nested = Router::new().route("/upload", limited());
            plain().nest("/api", nested).layer(guard())
        }),
        ("a merged route", "/upload", {
            let other = Router::new().route("/upload", limited());
            plain().merge(other).layer(guard())
        }),
        ("a fallback", "/nowhere", {
            let handler = axum::handler::Handler::layer(count, RouteLimit::new(20));
            plain().fallback(handler).layer(guard())
        }),
        ("within other layers", "/upload", {
            let limited =
                limited()
                    .layer(TraceLayer::new_for_http())
                    .layer(axum::middleware::from_fn(
                        |request, next: axum::middleware::Next| next.run(request),
                    ));
            plain().route("/upload", limited).layer(guard())
        }),
        ("a handler's layer", "/upload", {
            let handler = axum::handler::Handler::layer(count, RouteLimit::new(20));
            plain().route("/upload", post(handler)).layer(guard())
        }),
        ("in one builder with another layer", "/upload", {
            let layers = ServiceBuilder::new()
                .layer(guard())
                .layer(CatchPanicLayer::new());
            plain().route("/upload", limited()).layer(layers)
        }),
        ("a layer of the handler", "/upload", {
            let handler = axum::handler::Handler::layer(count, RouteLimit::new(20));
            let handler = axum::handler::Handler::layer(handler, guard());
            plain().layer(guard()).route("/upload", post(handler))
        }),
        ("of two, the inner", "/upload", {
            let twice = limited().layer(RouteLimit::new(5));
            plain().route("/upload", twice).layer(guard())
        }),
        ("beside a method without", "/upload", {
            let methods = limited().put(count);
            plain().route("/upload", methods).layer(guard())
        }),
        ("with state", "/upload", {
            let app = Router::new()
                .route("/", post(count))
                .route("/upload", limited())
                .layer(guard());
            app.with_state(())
        }),
    ];
    for (name, path, app) in apps {
        for (path, limit) in [("/", 10), (path, 20)] {
            let upload = || Request::post(path);
            assert_eq!(status(&app, upload(), limit).await, 200, "{name}: {path}");
            assert_eq!(
                status(&app, upload(), limit + 1).await,
                413,
                "{name}: {path}"
            );
            // The head alone is refused by the same limit, too.
            let declared = upload().body(Body::from(vec![b'0'; limit + 1])).unwrap();
            let response = app.clone().oneshot(declared).await.unwrap();
            let refusal = response.extensions().get::<Refusal>().unwrap();
            assert_eq!(refusal.limit(), Some(limit as u64), "{name}: {path}");
        }
    }
}

#[tokio::test]
async fn limit_of_a_route_is_its_methods_own() {
    let app = Router::new()
        .route("/", post(count).layer(RouteLimit::new(20)).put(count))
        .layer(BodyGuardLayer::axum(10));
    assert_eq!(status(&app, Request::post("/"), 20).await, 200);
    assert_eq!(status(&app, Request::put("/"), 11).await, 413);
}

/// A `MethodRouter` that is passed as a service is one route: without knowing the method, the
/// smallest limit applies.
#[test]
fn limits_of_methods_within_a_service_are_the_smallest_and_reported() {
    let methods = |limit: Limit| put(count).layer(RouteLimit::new(limit)).post(count);
    let apps = |limit: fn() -> Limit| {
        [
            Router::new().nest_service("/api", methods(limit())),
            Router::new().route_service("/api", methods(limit())),
            Router::new().fallback_service(methods(limit())),
        ]
    };
    for (limit, most) in [
        (Limit::unlimited as fn() -> Limit, 10),
        (|| Limit::max(3), 3),
    ] {
        for app in apps(limit) {
            let app = app.layer(BodyGuardLayer::axum(10));
            let log = logged(async {
                for request in [Request::put, Request::post] {
                    assert_eq!(status(&app, request("/api"), most).await, 200);
                    assert_eq!(status(&app, request("/api"), most + 1).await, 413);
                }
            });
            assert_eq!(
                log.matches("a `RouteLimit` is not in force").count(),
                1,
                "{log}"
            );
        }
    }
}

/// Two uses of one `RouteLimit`, of which only one is found.
#[test]
fn limit_of_a_route_that_was_added_after_the_guard_is_reported() {
    let small = RouteLimit::new(3);
    let app = Router::new()
        .route("/a", post(count).layer(small.clone()))
        .layer(BodyGuardLayer::axum(10))
        .route("/b", post(count).layer(small));
    let log = logged(async {
        assert_eq!(status(&app, Request::post("/a"), 4).await, 413);
        status(&app, Request::post("/b"), 4).await;
    });
    assert_eq!(
        log.matches("a `RouteLimit` is not in force").count(),
        1,
        "{log}"
    );
}

/// A `RouteLimit` may be smaller, unlimited, or depend on the head.
#[tokio::test]
async fn limit_of_a_route_may_be_any() {
    let by_head = |head: &http::request::Parts| match head.method {
        Method::PUT => Limit::max(5),
        _ => Limit::max(50),
    };
    let app = Router::new()
        .route("/less", post(count).layer(RouteLimit::new(5)))
        .route(
            "/any",
            post(count).layer(RouteLimit::new(Limit::unlimited())),
        )
        .route(
            "/by-head",
            post(count)
                .put(count)
                .layer(RouteLimit::new(Limit::from_fn(by_head))),
        )
        .layer(BodyGuardLayer::axum(Limit::max(10).route("/less", 100)));
    assert_eq!(status(&app, Request::post("/less"), 6).await, 413);
    assert_eq!(status(&app, Request::post("/any"), 1000).await, 200);
    assert_eq!(status(&app, Request::post("/by-head"), 50).await, 200);
    assert_eq!(status(&app, Request::put("/by-head"), 6).await, 413);
}

/// If no limit layer can find the `RouteLimit`, it refuses by its own limit, and a warning is
/// logged.
#[test]
fn limit_of_a_route_that_no_guard_finds_is_reported_once() {
    let limited = || post(count).layer(RouteLimit::new(20));
    let app = || Router::new().route("/", limited());
    let apps = [
        ("around the app", {
            Router::new().fallback_service(BodyGuardLayer::axum(10).layer(app()))
        }),
        ("not axum's form", app().layer(BodyGuardLayer::new(10))),
        ("`nest_service`", {
            Router::new()
                .nest_service("/api", app())
                .layer(BodyGuardLayer::axum(10))
        }),
    ];
    for (name, app) in apps {
        let log = logged(async {
            let path = if name.starts_with('`') { "/api" } else { "/" };
            assert_eq!(status(&app, Request::post(path), 11).await, 413, "{name}");
            status(&app, Request::post(path), 5).await;
        });
        let said = log.matches("a `RouteLimit` is not in force").count();
        assert_eq!(said, 1, "{name}: {log}");
    }
    let found = app().layer(BodyGuardLayer::axum(10));
    let log = logged(async {
        status(&found, Request::post("/"), 15).await;
    });
    assert!(log.is_empty(), "{log}");
}

/// Covers axum's own limit inside a layer that does not lift it, and tower-http's limit outside.
#[tokio::test]
async fn smaller_limit_of_others_is_reported_once() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let observer = Observer::new({
        let told = Arc::clone(&told);
        move |event| {
            if let Event::SmallerLimit { limit } = event {
                told.lock().unwrap().push(*limit);
            }
        }
    });
    let route = || Router::new().route("/", post(count));
    let guard = || BodyGuardLayer::new(3 * MIB).observer(observer.clone());
    let declared = |app: &Router, length: usize| {
        let request = Request::post("/").body(Body::from(vec![b'0'; length]));
        app.clone().oneshot(request.unwrap())
    };
    let took = || std::mem::take(&mut *told.lock().unwrap());

    let app = route().layer(guard());
    for length in [2 << 20, (3 << 20) + 1] {
        declared(&app, length).await.unwrap();
    }
    assert_eq!(took(), []);
    for _ in 0..2 {
        let response = declared(&app, (2 << 20) + 1).await.unwrap();
        assert_eq!(response.status(), 413);
    }
    assert_eq!(took(), [Some(3 * MIB)]);
    let app = route().layer(guard());
    assert_eq!(status(&app, Request::post("/"), (2 << 20) + 1).await, 413);
    assert_eq!(took(), [Some(3 * MIB)]);

    // In axum's form, an inner limit is deliberate, so it is not reported.
    let chosen = route()
        .layer(DefaultBodyLimit::max(10))
        .layer(BodyGuardLayer::axum(3 * MIB).observer(observer.clone()));
    assert_eq!(status(&chosen, Request::post("/"), 11).await, 413);
    assert_eq!(took(), []);

    let within = BodyGuardLayer::axum(100).observer(observer.clone());
    let app = route().layer(within).layer(RequestBodyLimitLayer::new(100));
    assert_eq!(status(&app, Request::post("/"), 100).await, 200);
    assert_eq!(took(), []);
    status(&app, Request::post("/"), 101).await;
    assert_eq!(took(), [Some(100)]);
}

/// Runs `construct`, which must panic. Returns the message, and whether the panic names this file.
fn panics(construct: impl FnOnce() + std::panic::UnwindSafe + 'static) -> (String, bool) {
    static HOOK: Mutex<()> = Mutex::new(());
    let _one_at_a_time = HOOK.lock().unwrap();
    let place = Arc::new(Mutex::new(None));
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new({
        let (place, thread) = (Arc::clone(&place), std::thread::current().id());
        move |info| {
            if std::thread::current().id() == thread {
                *place.lock().unwrap() = info.location().map(|at| at.file().to_owned());
            }
        }
    }));
    let panic = std::panic::catch_unwind(construct);
    std::panic::set_hook(before);
    let panic = panic.expect_err("it panics");
    let message = panic.downcast_ref::<String>().cloned();
    let message = message.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let place = place.lock().unwrap().take();
    (message.unwrap(), place.as_deref() == Some(file!()))
}

#[test]
fn wrong_limit_for_a_route_panics_at_its_line() {
    let route = |path: &'static str| {
        panics(move || {
            let _ = Limit::max(1).route(path, 2);
        })
    };
    let duplicate = panics(|| {
        let _ = Limit::max(1).route("/a", 2).route("/a", 3);
    });
    let by_route = panics(|| {
        let _ = Limit::max(1).route("/a", Limit::max(2).route("/b", 3));
    });
    let around = panics(|| {
        let guard = BodyGuardLayer::axum(Limit::max(1).route("/a", 2));
        let _ = guard.layer(Router::<()>::new());
    });
    for ((message, here), says) in [
        (route("upload"), "write `/upload`"),
        (route(""), "write `/`"),
        (route("/users/:id/photo"), "write `{id}` for `:id`"),
        (route("/*rest"), "write `{*rest}` for `*rest`"),
        // axum itself panics here.
        (route("/{id"), "Invalid route"),
        (duplicate, "the route `/a` has a limit already"),
        (by_route, "give each route one limit"),
        (around, "needs `Router::layer`"),
    ] {
        assert!(message.contains(says), "{message}");
        assert!(here, "{message} names another file");
    }
}

#[test]
fn status_that_is_no_error_panics_at_its_line() {
    for status in [200, 302, 101] {
        let (message, here) = panics(move || {
            let status = StatusCode::from_u16(status).unwrap();
            let _ = BodyGuardLayer::new(1).status(status);
        });
        assert!(
            message.contains("write a status of 400 to 599"),
            "{message}"
        );
        assert!(here);
    }
    let _ = BodyGuardLayer::new(1).status(StatusCode::SERVICE_UNAVAILABLE);
}

#[derive(Clone)]
struct Plan(u64);

#[tokio::test]
async fn the_head_decides() {
    let limit = Limit::from_fn(|head| {
        if let Some(Plan(bytes)) = head.extensions.get() {
            return Limit::max(*bytes);
        }
        let json = head
            .headers
            .get("content-type")
            .is_some_and(|kind| kind == "application/json");
        match head.method.as_str() {
            "PUT" => Limit::unlimited(),
            _ if json => Limit::max(5),
            _ => Limit::max(10).route("/any", 20),
        }
    });
    let app = Router::new()
        .route("/", post(count).put(count))
        .route("/any", post(count))
        .layer(BodyGuardLayer::new(limit));
    let json = || Request::post("/").header("content-type", "application/json");
    let paying = || Request::post("/").extension(Plan(1000));
    for (request, limit) in [
        (Request::post("/"), 10),
        (Request::post("/any"), 20),
        (json(), 5),
        (paying(), 1000),
    ] {
        assert_eq!(status(&app, request, limit + 1).await, 413);
    }
    assert_eq!(status(&app, Request::post("/"), 10).await, 200);
    assert_eq!(status(&app, Request::post("/any"), 20).await, 200);
    assert_eq!(status(&app, json(), 5).await, 200);
    assert_eq!(status(&app, paying(), 1000).await, 200);
    assert_eq!(status(&app, Request::put("/"), 1_000_000).await, 200);
}

/// Without a limit, the limit layer still checks the head.
#[tokio::test]
async fn no_limit_is_no_licence() {
    let app = counting().layer(BodyGuardLayer::new(Limit::unlimited()));
    assert_eq!(status(&app, Request::post("/"), 10_000_000).await, 200);
    let bad = Request::post("/").header("content-length", "many");
    assert_eq!(status(&app, bad, 1).await, 400);
}

/// 100 MiB pass a limit of 100 MiB, and axum's own 2 MB do not apply.
#[tokio::test]
async fn axum_guard_admits_what_it_says() {
    const LARGE: usize = 100 << 20;
    let app = Router::new()
        .route("/bytes", post(count))
        .route(
            "/json",
            post(|json: Json<String>| async move { json.len().to_string() }),
        )
        .route(
            "/form",
            post(|form: Form<Vec<(String, String)>>| async move { form[0].1.len().to_string() }),
        )
        .route("/multipart", post(multipart))
        .layer(BodyGuardLayer::axum(LARGE as u64));
    let fill = |head: &str, tail: &str| {
        let fill = LARGE - head.len() - tail.len();
        (format!("{head}{}{tail}", "0".repeat(fill)), fill)
    };
    let part = "--x\r\nContent-Disposition: form-data; name=\"a\"; filename=\"a\"\r\n\r\n";
    for (path, kind, (mut body, length)) in [
        ("/bytes", "text/plain", fill("", "")),
        ("/json", "application/json", fill("\"", "\"")),
        ("/form", "application/x-www-form-urlencoded", fill("a=", "")),
        (
            "/multipart",
            "multipart/form-data; boundary=x",
            fill(part, "\r\n--x--\r\n"),
        ),
    ] {
        let send = |body: String| {
            let request = Request::post(path).header("content-type", kind);
            app.clone().oneshot(request.body(Body::from(body)).unwrap())
        };
        let response = send(body.clone()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let said = axum::body::to_bytes(response.into_body(), 100)
            .await
            .unwrap();
        assert_eq!(said, length.to_string(), "{path}");
        body.push('0');
        assert_eq!(
            send(body).await.unwrap().status(),
            StatusCode::PAYLOAD_TOO_LARGE,
            "{path}"
        );
    }
}

/// `new` leaves axum's own limit in force. `BodyGuardLayer::axum` lifts it.
#[tokio::test]
async fn new_leaves_axums_own_limit() {
    let app = Router::new()
        .route("/", post(count))
        .layer(BodyGuardLayer::new(100 * MIB));
    assert_eq!(status(&app, Request::post("/"), 2 << 20).await, 200);
    assert_eq!(status(&app, Request::post("/"), (2 << 20) + 1).await, 413);
}

/// A limit that is set inside still holds.
#[tokio::test]
async fn a_limit_of_axum_inside_axum_guard_holds() {
    let app = Router::new()
        .route("/", post(count).layer(DefaultBodyLimit::max(10)))
        .layer(BodyGuardLayer::axum(100));
    assert_eq!(status(&app, Request::post("/"), 10).await, 200);
    assert_eq!(status(&app, Request::post("/"), 11).await, 413);
}

#[test]
fn a_length_is_required() {
    let app = counting()
        .route("/get", get(|| async { "no body, no length" }))
        .layer(BodyGuardLayer::new(MIB).require_content_length());
    for server in Server::both(&app) {
        let chunked = SendFirst::post("/", Framing::Chunked, 5).header("Connection: close");
        let response = chunked.to(server.addr).assert_delivered(411);
        assert!(response.body.contains("Content-Length"), "{response:?}");

        let known = SendFirst::post("/", Framing::ContentLength, 5).header("Connection: close");
        known.to(server.addr).assert_delivered(200);

        let get = b"GET /get HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        let mut socket = std::net::TcpStream::connect(server.addr).unwrap();
        std::io::Write::write_all(&mut socket, get).unwrap();
        assert_eq!(
            testkit::client::read_response(&mut socket).unwrap().status,
            200
        );
    }
}

/// Tests the behaviours of `RequestBodyLimitLayer` with our limit layer.
mod as_tower_http_has_it {
    use std::convert::Infallible;

    use http::Response;
    use http_body_util::{BodyExt, Full, LengthLimitError, StreamBody};
    use tower::service_fn;
    use tower_bodyguard::{BoxError, GuardedBody};

    use super::*;

    async fn echo<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, BoxError>
    where
        B: http_body::Body<Error = BoxError>,
    {
        let body = request.into_body().collect().await?.to_bytes();
        Ok(Response::new(Full::new(body)))
    }

    fn declared(length: usize) -> Request<Full<Bytes>> {
        Request::post("/")
            .header("content-length", length)
            .body(Full::from(vec![0; length]))
            .unwrap()
    }

    #[tokio::test]
    async fn refuses_by_declared_length_without_calling_the_service() {
        let never = service_fn(|_: Request<GuardedBody<Full<Bytes>>>| async {
            panic!("it was called");
            #[expect(unreachable_code, reason = "the type of a service's response")]
            Ok::<Response<Full<Bytes>>, Infallible>(Response::default())
        });
        let service = ServiceBuilder::new()
            .layer(BodyGuardLayer::new(5))
            .service(never);
        let response = service.oneshot(declared(6)).await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn passes_a_body_at_the_limit() {
        let service = ServiceBuilder::new()
            .layer(BodyGuardLayer::new(5))
            .service_fn(echo);
        let response = service.oneshot(declared(5)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_streamed_body_errs_at_the_limit() {
        let see = |request: Request<GuardedBody<_>>| async move {
            let error = request.into_body().collect().await.unwrap_err();
            assert!(error.is::<LengthLimitError>());
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        };
        let frame = http_body::Frame::data(Bytes::from_static(b"more than five"));
        let body = StreamBody::new(futures_util::stream::iter([Ok::<_, Infallible>(frame)]));
        let service = ServiceBuilder::new()
            .layer(BodyGuardLayer::new(5))
            .service_fn(see);
        let response = service
            .oneshot(Request::post("/").body(body).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    /// A body is limited even if the transport yields more than was declared.
    #[tokio::test]
    async fn a_body_longer_than_it_declares_is_bounded() {
        let service = ServiceBuilder::new()
            .layer(BodyGuardLayer::new(5))
            .service_fn(echo);
        let request = Request::post("/")
            .header("content-length", 3)
            .body(Full::<Bytes>::from("more than five"))
            .unwrap();
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn works_with_get_without_a_body() {
        let service = ServiceBuilder::new()
            .layer(BodyGuardLayer::new(5))
            .service_fn(echo);
        let request = Request::get("/").body(Full::<Bytes>::default()).unwrap();
        assert_eq!(
            service.oneshot(request).await.unwrap().status(),
            StatusCode::OK
        );
    }
}

/// Both framings meet the limit of their route on the wire.
#[test]
fn a_routes_limit_on_the_wire() {
    let limit = Limit::max(1000).route("/bytes", 2000);
    let app = counting().layer(BodyGuardLayer::new(limit));
    for server in Server::both(&app) {
        for framing in FRAMINGS {
            let small = SendFirst::post("/bytes", framing, 1500).header("Connection: close");
            small.to(server.addr).assert_delivered(200);
            SendFirst::post("/bytes", framing, 64 << 20)
                .to(server.addr)
                .assert_delivered(413);
        }
    }
}

/// A body without a declared length is wrapped even if the limit is 0.
#[tokio::test]
async fn a_hint_does_not_hide_a_byte() {
    let hint = |request: Request<Body>| async move {
        let hint = http_body::Body::size_hint(request.body());
        assert_eq!(hint.exact(), None);
    };
    let app = Router::new()
        .route("/", post(hint))
        .layer(BodyGuardLayer::new(0));
    assert_eq!(status(&app, Request::post("/"), 1).await, 200);
}

#[tokio::test]
async fn grpc_methods_have_limits_of_their_own() {
    let limit = Limit::max(10)
        .grpc_method("chat.v1.Chat", "Talk", Limit::unlimited())
        .grpc_method("chat.v1.Chat", "Upload", 20);
    let app = Router::new()
        .fallback(post(count))
        .layer(BodyGuardLayer::axum(limit));
    let methods = [("Talk", None), ("Upload", Some(20)), ("Other", Some(10))];
    for (method, limit) in methods {
        let path = format!("/chat.v1.Chat/{method}");
        let most = limit.unwrap_or(1000);
        assert_eq!(status(&app, Request::post(&path), most).await, 200);
        if limit.is_some() {
            assert_eq!(status(&app, Request::post(&path), most + 1).await, 413);
        }
    }
}

#[test]
fn wrong_limit_for_a_grpc_method_panics_at_its_line() {
    let method = |service: &'static str, method: &'static str| {
        panics(move || {
            let limit = Limit::max(1).grpc_method("a.B", "C", 2);
            let _ = limit.grpc_method(service, method, 3);
        })
    };
    for ((message, here), says) in [
        (method("/a.B", "D"), "write `package.Service` and `Method`"),
        (method("a.B", ""), "write `package.Service` and `Method`"),
        (method("a.B", "C"), "has a limit already"),
    ] {
        assert!(message.contains(says) && here, "{message}");
    }
}

#[test]
fn captured_value_of_another_type_is_none_and_reported() {
    let refusal = Refusal::new(RefusalKind::BadLength, 1).with_captured("path".to_owned());
    let log = logged(async {
        assert_eq!(refusal.captured::<String>().unwrap(), "path");
        assert_eq!(refusal.captured::<&str>(), None);
        assert_eq!(refusal.captured::<u8>(), None);
    });
    let says = "`capture` returns `alloc::string::String`, and not `&str`";
    assert_eq!(log.matches(says).count(), 1, "{log}");
    assert_eq!(log.lines().count(), 1, "{log}");
    let none = Refusal::new(RefusalKind::BadLength, None);
    assert!(none.captured::<u8>().is_none());
}

/// A closure that forgets the status refuses with the refusal's.
#[tokio::test]
async fn response_without_a_status_has_that_of_the_refusal() {
    let by_axum = Router::new()
        .route("/", post(count))
        .layer(BodyGuardLayer::axum(10).refusal_response(|refusal: &Refusal| refusal.to_string()));
    let by_any = Router::new().route("/", post(count)).layer(
        BodyGuardLayer::new(10)
            .refusal_response(|_: &Refusal| axum::response::Response::new(Body::from("no"))),
    );
    for app in [by_axum, by_any] {
        assert_eq!(status(&app, Request::post("/"), 11).await, 413);
        let declared = Request::post("/").header("content-length", 11);
        assert_eq!(status(&app, declared, 11).await, 413);
    }
}

/// Limit layers inside one another, and a handler with a reason of its own, are no mistakes.
#[tokio::test]
async fn smaller_limit_of_another_guard_is_not_reported() {
    let told = Arc::new(Mutex::new(0));
    let observer = Observer::new({
        let told = Arc::clone(&told);
        move |event| {
            if let Event::SmallerLimit { .. } = event {
                *told.lock().unwrap() += 1;
            }
        }
    });
    let nested = Router::new()
        .route("/", post(count))
        .layer(BodyGuardLayer::axum(40).observer(observer.clone()))
        .layer(BodyGuardLayer::new(10).observer(observer.clone()));
    assert_eq!(status(&nested, Request::post("/"), 11).await, 413);

    let picky = Router::new()
        .route(
            "/",
            post(|_: Bytes| async { StatusCode::PAYLOAD_TOO_LARGE }),
        )
        .layer(BodyGuardLayer::new(100).observer(observer.clone()));
    assert_eq!(status(&picky, Request::post("/"), 50).await, 413);
    assert_eq!(*told.lock().unwrap(), 0);
}

/// As an authentication layer does that waits for a database.
#[tokio::test]
async fn limit_from_an_extension_is_that_of_an_outer_layer() {
    let middleware = axum::middleware::from_fn(
        async |mut request: Request<Body>, next: axum::middleware::Next| {
            tokio::task::yield_now().await;
            if let Some(plan) = request.headers().get("plan") {
                let limit: u64 = plan.to_str().unwrap().parse().unwrap();
                request.extensions_mut().insert(Limit::max(limit));
            }
            next.run(request).await
        },
    );
    let app = Router::new()
        .route("/", post(count))
        .layer(BodyGuardLayer::axum(Limit::from_extension(10)))
        .layer(middleware);
    let paid = || Request::post("/").header("plan", "20");
    assert_eq!(status(&app, paid(), 20).await, 200);
    assert_eq!(status(&app, paid(), 21).await, 413);
    assert_eq!(status(&app, Request::post("/"), 10).await, 200);
    assert_eq!(status(&app, Request::post("/"), 11).await, 413);
}

#[tokio::test]
async fn route_that_streams_needs_no_room_in_the_budget() {
    let budget = BodyBudget::max_bytes(10 * KIB);
    let streams = RouteLimit::new(Limit::max(MIB).without_budget());
    let app = Router::new()
        .route("/", post(count))
        .route("/stream", post(count).layer(streams))
        .layer(BodyGuardLayer::axum(MIB).budget(&budget));
    let bytes = 11 << 10;
    assert_eq!(status(&app, Request::post("/stream"), bytes).await, 200);
    assert_eq!(status(&app, Request::post("/"), bytes).await, 413);
    // A path that matches nothing gets the smallest limit, and needs room.
    let by_path = Limit::max(MIB).route("/stream", Limit::max(MIB).without_budget());
    let app = Router::new()
        .route("/stream", post(count))
        .fallback(count)
        .layer(BodyGuardLayer::axum(by_path).budget(&budget));
    assert_eq!(status(&app, Request::post("/stream"), bytes).await, 200);
    assert_eq!(status(&app, Request::post("/other"), bytes).await, 413);
}
