//! Refusals as users write them: as text, as JSON, as a page, by a closure, with the limit hidden,
//! or left to the handler.
#![cfg(feature = "axum")]

use std::{
    convert::Infallible,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, rejection::BytesRejection},
    http::{Method, Request, Response, StatusCode, Version},
    response::IntoResponse,
    routing::{post, put},
};
use serde_json::{Value, json};
use testkit::{LARGE, MIB, SendFirst, client::FRAMINGS, outside::repository};
use tower::{Layer, ServiceExt};
use tower_bodyguard::{
    BodyGuardLayer, Limit, Refusal,
    axum::RouteLimit,
    limit::{BodyLimitStatus, HtmlPage, Negotiated, ProblemJson, RefusalKind, RefusalResponse},
};

use tower_http::compression::CompressionLayer;

use crate::server::{Server, counting};

const LIMIT: u64 = 1000;

fn declared(accept: &str) -> Request<Body> {
    Request::post("/")
        .header("accept", accept)
        .header("content-length", 2000)
        .body(Body::from(vec![0; 2000]))
        .unwrap()
}

fn streamed() -> Request<Body> {
    let frames = futures_util::stream::iter([Ok::<_, std::io::Error>(vec![0; 2000])]);
    Request::post("/").body(Body::from_stream(frames)).unwrap()
}

async fn respond(app: Router, request: Request<Body>) -> (Response<()>, String) {
    let response = app.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 100_000).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    (Response::from_parts(parts, ()), text)
}

fn kind(response: &Response<()>) -> &str {
    response.headers()["content-type"].to_str().unwrap()
}

fn problem_type(section: &str) -> String {
    let page =
        "https://docs.rs/tower-bodyguard/latest/tower_bodyguard/limit/struct.ProblemJson.html";
    format!("{page}#{section}")
}

#[tokio::test]
async fn problem_json_has_its_members() {
    let app = || counting().layer(BodyGuardLayer::new(LIMIT).refusal_response(ProblemJson));
    let (response, text) = respond(app(), declared("*/*")).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(kind(&response), "application/problem+json");
    let detail = "Upload too large: 2 KiB. The limit is 1000 bytes. Choose a smaller file.";
    let expected = json!({
        "type": problem_type("content-too-large"), "title": "Content Too Large", "status": 413,
        "detail": detail, "limit": 1000, "declared": 2000,
    });
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);

    let (_, text) = respond(app(), streamed()).await;
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&problem["limit"], &problem["received"]),
        (&json!(1000), &json!(2000))
    );
    assert_eq!(problem.get("declared"), None);
}

#[tokio::test]
async fn problem_json_of_other_kinds_names_no_limit() {
    let guard = BodyGuardLayer::new(LIMIT).require_content_length();
    let app = counting().layer(guard.refusal_response(ProblemJson));
    let (response, text) = respond(app, streamed()).await;
    assert_eq!(response.status(), StatusCode::LENGTH_REQUIRED);
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(problem["title"], "Length Required");
    assert_eq!(problem.get("limit"), None);
}

/// Each type is a section of the documentation, which names the members.
#[tokio::test]
async fn problem_json_documents_the_type_and_the_members_of_each_kind() {
    let documentation = fs::read_to_string(repository("src/limit/refusal_response.rs")).unwrap();
    let seconds = Duration::from_secs;
    for (kind, section, members) in [
        (
            RefusalKind::Declared { length: 2000 },
            "content-too-large",
            json!({ "limit": 1000, "declared": 2000 }),
        ),
        (
            RefusalKind::Streamed { received: 2000 },
            "content-too-large",
            json!({ "limit": 1000, "received": 2000 }),
        ),
        (
            RefusalKind::TooSlow { rate: 240 },
            "upload-too-slow",
            json!({ "min_bytes_per_second": 240 }),
        ),
        (
            RefusalKind::IdleTimeout {
                timeout: Duration::from_millis(1500),
            },
            "upload-timed-out",
            json!({ "idle_timeout_seconds": 1.5 }),
        ),
        (
            RefusalKind::DeadlineExceeded {
                deadline: seconds(600),
            },
            "upload-timed-out",
            json!({ "deadline_seconds": 600 }),
        ),
        (
            RefusalKind::OverBudget {
                retry_after: seconds(5),
            },
            "no-room",
            json!({ "retry_after_seconds": 5 }),
        ),
        (RefusalKind::BadLength, "bad-content-length", json!({})),
        (RefusalKind::LengthRequired, "length-required", json!({})),
    ] {
        let refusal = Refusal::new(kind, LIMIT);
        let response = RefusalResponse::<Body>::respond(&ProblemJson, &refusal);
        let text = to_bytes(Body::new(response.into_body()), 100_000).await;
        let mut problem: serde_json::Map<_, _> = serde_json::from_slice(&text.unwrap()).unwrap();
        assert_eq!(problem.remove("type"), Some(problem_type(section).into()));
        let heading = format!("\n/// # `{section}`\n");
        let (_, text) = documentation.split_once(&heading).expect(section);
        let (text, _) = text.split_once("\n/// # ").unwrap();
        for common in ["title", "status", "detail"] {
            assert!(problem.remove(common).is_some(), "{kind:?}");
        }
        for member in problem.keys() {
            assert!(text.contains(&format!("- `{member}`: ")), "{member}");
        }
        assert_eq!(Value::Object(problem), members, "{kind:?}");
    }
}

fn upload_limit(response: &Response<()>) -> Option<&str> {
    let value = response.headers().get("upload-limit")?;
    Some(value.to_str().unwrap())
}

#[tokio::test]
async fn upload_limit_is_in_refusals_only_if_it_is_asked_for() {
    let guard = || BodyGuardLayer::new(LIMIT);
    for (guard, expected) in [
        (guard(), None),
        (guard().upload_limit_header(), Some("max-size=1000")),
        (guard().upload_limit_on_options(), Some("max-size=1000")),
        (guard().upload_limit_header().hide_limit(), None),
    ] {
        let app = counting().layer(guard);
        for request in [declared("*/*"), streamed()] {
            let (response, _) = respond(app.clone(), request).await;
            assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
            assert_eq!(upload_limit(&response), expected);
        }
        let accepted = Request::post("/").body(Body::from("hello")).unwrap();
        let (response, _) = respond(app, accepted).await;
        assert_eq!(
            (response.status(), upload_limit(&response)),
            (StatusCode::OK, None)
        );
    }
}

#[tokio::test]
async fn upload_limit_of_a_closure_is_kept() {
    let guard = BodyGuardLayer::axum(LIMIT).upload_limit_header();
    let guard = guard.refusal_response(|_: &Refusal| [("upload-limit", "max-size=7")]);
    let (response, _) = respond(counting().layer(guard), declared("*/*")).await;
    assert_eq!(upload_limit(&response), Some("max-size=7"));
}

#[tokio::test]
async fn upload_limit_is_in_responses_to_options_only_if_it_is_asked_for() {
    let app = |guard: BodyGuardLayer<_, _>| {
        Router::new()
            .route("/", post(|body: Bytes| async move { body }))
            .route(
                "/large",
                post(|body: Bytes| async move { body })
                    .options(|| async { "POST" })
                    .layer(RouteLimit::new(2 * LIMIT)),
            )
            .layer(guard)
    };
    let guard = || BodyGuardLayer::axum(LIMIT);
    let none = BodyGuardLayer::axum(Limit::unlimited()).upload_limit_on_options();
    for (guard, path, expected) in [
        (guard(), "/", None),
        (guard().upload_limit_header(), "/", None),
        (
            guard().upload_limit_on_options(),
            "/",
            Some("max-size=1000"),
        ),
        (
            guard().upload_limit_on_options(),
            "/large",
            Some("max-size=2000"),
        ),
        (guard().upload_limit_on_options().hide_limit(), "/", None),
        (none, "/", Some("min-size=0")),
    ] {
        for body in [Body::empty(), Body::from("hello")] {
            let request = Request::builder().method(Method::OPTIONS).uri(path);
            let request = request.body(body).unwrap();
            let (response, _) = respond(app(guard.clone()), request).await;
            assert_eq!(upload_limit(&response), expected, "{path}");
        }
        let get = Request::get(path).body(Body::empty()).unwrap();
        let (response, _) = respond(app(guard), get).await;
        assert_eq!(upload_limit(&response), None);
    }
}

#[tokio::test(start_paused = true)]
async fn late_body_has_retry_after_only_if_it_is_set() {
    let guard = || BodyGuardLayer::new(LIMIT).idle_timeout(Duration::from_secs(30));
    let delay = Duration::from_millis(1500);
    for (guard, header, member) in [
        (guard(), None, None),
        (guard().retry_after(delay), Some("2"), Some(2)),
    ] {
        let silent =
            Body::from_stream(futures_util::stream::pending::<Result<Bytes, Infallible>>());
        let request = Request::post("/").body(silent).unwrap();
        let app = counting().layer(guard.refusal_response(ProblemJson));
        let (response, text) = respond(app.clone(), request).await;
        assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
        let sent = response.headers().get("retry-after");
        assert_eq!(sent.map(|value| value.to_str().unwrap()), header);
        let problem: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(problem["retry_after_seconds"].as_u64(), member);

        let (response, _) = respond(app, declared("*/*")).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert!(!response.headers().contains_key("retry-after"));
    }
}

/// Caches must not serve it to a client with another `Accept` or `Accept-Encoding`.
#[tokio::test]
async fn negotiated_refusal_that_is_compressed_varies_by_both() {
    let app = counting()
        .layer(BodyGuardLayer::new(LIMIT).refusal_response(Negotiated))
        .layer(CompressionLayer::new());
    for (encoding, compressed) in [("gzip", true), ("identity", false)] {
        let mut request = declared("text/html");
        let encoding = encoding.parse().unwrap();
        request.headers_mut().insert("accept-encoding", encoding);
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let headers = response.headers();
        let varies: Vec<_> = headers.get_all("vary").iter().collect();
        assert_eq!(varies, ["accept", "accept-encoding"]);
        assert_eq!(headers.contains_key("content-encoding"), compressed);
        // A length would be that of the text.
        assert_eq!(headers.contains_key("content-length"), !compressed);
        let body = to_bytes(response.into_body(), 100_000).await.unwrap();
        assert_eq!(body.starts_with(b"<!doctype html>"), !compressed);
    }
}

#[tokio::test]
async fn a_page_is_html() {
    let app = counting().layer(BodyGuardLayer::new(LIMIT).refusal_response(HtmlPage));
    let (response, text) = respond(app, declared("*/*")).await;
    assert_eq!(kind(&response), "text/html; charset=utf-8");
    assert!(text.starts_with("<!doctype html>"), "{text}");
    assert!(
        text.contains("Your upload is 2 KiB, but the limit here is 1000 bytes."),
        "{text}"
    );
}

#[tokio::test]
async fn each_kind_of_refusal_has_its_page() {
    let retry_after = Duration::from_secs(5);
    for (kind, status, heading, text) in [
        (
            RefusalKind::Streamed { received: 2000 },
            "413 Content Too Large",
            "Upload too large",
            "larger than 1000 bytes",
        ),
        (
            RefusalKind::TooSlow { rate: 240 },
            "408 Request Timeout",
            "Upload too slow",
            "slower than 240 bytes per second",
        ),
        (
            RefusalKind::IdleTimeout {
                timeout: Duration::from_secs(30),
            },
            "408 Request Timeout",
            "Upload timed out",
            "arrived for 30 seconds",
        ),
        (
            RefusalKind::DeadlineExceeded {
                deadline: Duration::from_secs(600),
            },
            "408 Request Timeout",
            "Upload timed out",
            "more than 10 minutes",
        ),
        (
            RefusalKind::OverBudget { retry_after },
            "503 Service Unavailable",
            "The server is busy",
            "try again in 5 seconds",
        ),
        (
            RefusalKind::BadLength,
            "400 Bad Content-Length",
            "Invalid length",
            "not valid",
        ),
        (
            RefusalKind::LengthRequired,
            "411 Length Required",
            "Length required",
            "did not send the length",
        ),
    ] {
        let refusal = Refusal::new(kind, LIMIT);
        let response = RefusalResponse::<Body>::respond(&HtmlPage, &refusal);
        assert_eq!(response.status().as_str(), &status[..3]);
        let page = to_bytes(Body::new(response.into_body()), 100_000).await;
        let page = String::from_utf8(page.unwrap().to_vec()).unwrap();
        let head = format!("<title>{status}</title>\n<h1>{heading}</h1>\n<p>");
        assert!(page.contains(&head), "{head}\n{page}");
        assert!(page.contains(text) && page.contains("Go back"), "{page}");
    }
}

fn request_of(path: &str, streamed: bool) -> Request<Body> {
    let request = Request::put(path).extension(ConnectInfo(PEER));
    let frames = futures_util::stream::iter([Ok::<_, std::io::Error>(vec![0; 2000])]);
    match streamed {
        true => request.body(Body::from_stream(frames)),
        false => request.header("content-length", 2000).body(Body::empty()),
    }
    .unwrap()
}

const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7);

#[tokio::test]
async fn refusal_has_the_method_path_route_and_peer_of_its_request() {
    let routes = Router::new()
        .route("/users/{id}", put(|body: Bytes| async move { body }))
        .fallback(|body: Bytes| async move { body });
    let inside = Router::new().nest("/api", routes.clone().layer(BodyGuardLayer::axum(LIMIT)));
    let around = BodyGuardLayer::axum(LIMIT).layer(Router::new().nest("/api", routes));
    let around = Router::new().fallback_service(around);
    for streamed in [false, true] {
        for (app, path, route, seen) in [
            (
                &inside,
                "/api/users/7?x=1",
                Some("/api/users/{id}"),
                "/users/7",
            ),
            (&inside, "/api/none", None, "/none"),
            (&around, "/api/users/7?x=1", None, "/api/users/7"),
        ] {
            let (response, _) = respond(app.clone(), request_of(path, streamed)).await;
            let refusal = response.extensions().get::<Refusal>().unwrap();
            assert_eq!(refusal.route(), route, "{path}");
            assert_eq!(refusal.path(), Some(seen), "{path}");
            assert_eq!(refusal.method(), Some(&Method::PUT));
            assert_eq!(refusal.peer(), Some(PEER));
        }
    }
    let without = Refusal::new(RefusalKind::BadLength, LIMIT);
    assert_eq!((without.method(), without.path()), (None, None));
}

#[tokio::test]
async fn the_client_chooses() {
    for (accept, expected) in [
        ("text/html,*/*;q=0.8", "text/html; charset=utf-8"),
        ("application/json", "application/problem+json"),
        ("*/*", "text/plain; charset=utf-8"),
    ] {
        let app = counting().layer(BodyGuardLayer::new(LIMIT).refusal_response(Negotiated));
        let (response, text) = respond(app, declared(accept)).await;
        assert_eq!(kind(&response), expected);
        assert_eq!(response.headers()["vary"], "accept");
        assert_eq!(response.headers()["content-length"], text.len().to_string());
    }
}

/// The closure is a copy of the one in the documentation.
#[tokio::test]
async fn closure_responds_in_the_services_own_body() {
    let guard = BodyGuardLayer::new(LIMIT).refusal_response(|r: &Refusal| {
        (r.status(), Json(json!({ "limit": r.limit() }))).into_response()
    });
    let app = counting().layer(guard);
    for request in [declared("*/*"), streamed()] {
        let (response, text) = respond(app.clone(), request).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(text, r#"{"limit":1000}"#);
        assert!(response.extensions().get::<Refusal>().is_some());
    }
}

#[tokio::test]
async fn a_secret_limit_is_kept() {
    for request in [
        declared("application/json"),
        declared("text/html"),
        declared("*/*"),
        streamed(),
    ] {
        let guard = BodyGuardLayer::new(LIMIT).hide_limit();
        let app = counting().layer(guard.refusal_response(Negotiated));
        let (response, text) = respond(app, request).await;
        assert!(!text.contains("1000"), "{text}");
        let refusal = response.extensions().get::<Refusal>().unwrap();
        assert_eq!(refusal.limit(), Some(LIMIT), "logs may have it");
    }
}

#[tokio::test]
async fn captured_value_is_there_when_the_body_proves_too_long() {
    let guard = BodyGuardLayer::new(LIMIT)
        .capture(|head| head.uri.path().to_owned())
        .refusal_response(|r: &Refusal| {
            r.captured::<String>()
                .cloned()
                .unwrap_or_default()
                .into_response()
        });
    let app = counting().layer(guard);
    for request in [declared("*/*"), streamed()] {
        assert_eq!(respond(app.clone(), request).await.1, "/");
    }
}

/// The head is not captured for requests that can no longer be refused.
#[tokio::test]
async fn a_head_is_captured_where_it_may_be_needed() {
    let calls = Arc::new(AtomicUsize::new(0));
    let guard = BodyGuardLayer::new(LIMIT).capture({
        let calls = Arc::clone(&calls);
        move |_| calls.fetch_add(1, Ordering::SeqCst)
    });
    for guard in [guard.clone(), guard.keep_handler_response()] {
        let app = counting().layer(guard);
        for body in [Body::empty(), Body::from("hello")] {
            respond(app.clone(), Request::post("/").body(body).unwrap()).await;
        }
        assert_eq!(calls.swap(0, Ordering::SeqCst), 0);
        for request in [declared("*/*"), streamed()] {
            respond(app.clone(), request).await;
        }
        assert_eq!(calls.swap(0, Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn outer_layers_see_the_refusal() {
    let app = counting().layer(BodyGuardLayer::new(LIMIT));
    let (response, _) = respond(app.clone(), declared("*/*")).await;
    let refusal = response.extensions().get::<Refusal>().unwrap();
    assert_eq!(refusal.kind(), RefusalKind::Declared { length: 2000 });
    assert_eq!((refusal.declared(), refusal.received()), (Some(2000), None));
    let (response, _) = respond(app, streamed()).await;
    let refusal = response.extensions().get::<Refusal>().unwrap();
    assert_eq!((refusal.declared(), refusal.received()), (None, Some(2000)));
}

async fn own_response(
    Extension(over): Extension<BodyLimitStatus>,
    body: Result<Bytes, BytesRejection>,
) -> (StatusCode, String) {
    match (body, over.received()) {
        (Ok(body), None) => (StatusCode::OK, body.len().to_string()),
        (Err(error), Some(_)) => {
            assert_eq!(
                error.status(),
                StatusCode::PAYLOAD_TOO_LARGE,
                "axum knows the error"
            );
            (
                StatusCode::IM_A_TEAPOT,
                format!("at most {}", over.limit().unwrap_or_default()),
            )
        }
        _ => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
    }
}

#[test]
fn handler_may_keep_its_own_response() {
    let app = Router::new()
        .route("/", post(own_response))
        .layer(BodyGuardLayer::axum(MIB).keep_handler_response());
    for server in Server::both(&app) {
        let upload = SendFirst::post("/", testkit::client::Framing::Chunked, LARGE);
        let response = upload.to(server.addr).assert_delivered(418);
        assert_eq!(response.body, "at most 1048576");
        let small =
            SendFirst::post("/", testkit::client::Framing::Chunked, 5).header("Connection: close");
        assert_eq!(small.to(server.addr).assert_delivered(200).body, "5");
        // An upload with a declared length never reaches the handler.
        SendFirst::post("/", testkit::client::Framing::ContentLength, LARGE)
            .to(server.addr)
            .assert_delivered(413);
    }
}

#[tokio::test]
async fn a_kept_response_has_the_refusal_in_its_extensions() {
    let app = Router::new()
        .route("/", post(own_response))
        .layer(BodyGuardLayer::axum(LIMIT).keep_handler_response());
    let (response, _) = respond(app, streamed()).await;
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    assert!(response.extensions().get::<Refusal>().is_some());
}

/// Only clients that can read a gRPC status get HTTP 200.
#[tokio::test]
async fn grpc_status_is_only_for_grpc_clients() {
    let guard = || BodyGuardLayer::new(LIMIT);
    let call = |version, kind| {
        let request = Request::post("/").version(version);
        let request = request.header("content-type", kind);
        let request = request.header("content-length", 2000);
        request.body(Body::from(vec![0; 2000])).unwrap()
    };
    for (guard, version, kind, status) in [
        (guard(), Version::HTTP_11, "application/grpc", 413),
        (guard(), Version::HTTP_2, "application/grpc", 200),
        (guard(), Version::HTTP_11, "application/grpc-web-text", 200),
    ] {
        let off = guard.clone().grpc_refusals(false);
        let (response, _) = respond(counting().layer(guard), call(version, kind)).await;
        assert_eq!(response.status(), status, "{kind} over {version:?}");
        let has_status = response.headers().contains_key("grpc-status");
        assert_eq!(has_status, status == 200, "{kind} over {version:?}");

        let (response, _) = respond(counting().layer(off), call(version, kind)).await;
        assert_eq!(response.status(), 413, "{kind} over {version:?}");
        assert!(!response.headers().contains_key("grpc-status"));
    }
}

/// Every kind of refusal response arrives on the wire.
#[test]
fn each_kind_of_response_arrives() {
    let custom =
        BodyGuardLayer::new(MIB).refusal_response(|r: &Refusal| r.status().into_response());
    let apps = [
        counting().layer(BodyGuardLayer::new(MIB).refusal_response(Negotiated)),
        counting().layer(BodyGuardLayer::new(MIB).refusal_response(ProblemJson)),
        counting().layer(custom),
    ];
    for app in apps {
        for server in Server::both(&app) {
            for framing in FRAMINGS {
                SendFirst::post("/", framing, LARGE)
                    .to(server.addr)
                    .assert_delivered(413);
            }
        }
    }
}

/// The `BodyLimitStatus` extension is present in every request.
#[tokio::test]
async fn a_request_without_a_body_has_its_over_limit_too() {
    for limit in [Limit::max(LIMIT), Limit::unlimited()] {
        let app = Router::new()
            .route("/", post(own_response))
            .layer(BodyGuardLayer::axum(limit).keep_handler_response());
        for body in [Body::empty(), Body::from("hello")] {
            let (response, _) = respond(app.clone(), Request::post("/").body(body).unwrap()).await;
            assert_eq!(response.status(), StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn accept_may_come_in_lines() {
    let mut request = declared("*/*");
    request
        .headers_mut()
        .append("accept", "application/json".parse().unwrap());
    let app = counting().layer(BodyGuardLayer::new(LIMIT).refusal_response(Negotiated));
    assert_eq!(
        kind(&respond(app, request).await.0),
        "application/problem+json"
    );
}
