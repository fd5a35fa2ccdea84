//! Servers for the tests. Each runs on its own runtime and stops when it is dropped.
//!
//! Each test binary is a separate crate and uses only a part of this module.
#![allow(dead_code, unreachable_pub)]

use std::{future::Future, net::SocketAddr};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Multipart},
    http::StatusCode,
    routing::any,
};
use futures_util::StreamExt;
use tokio::{net::TcpListener, runtime::Runtime};
use tower_bodyguard::{BodyGuardLayer, Linger};
use tower_http::limit::RequestBodyLimitLayer;

pub struct Server {
    pub addr: SocketAddr,
    pub linger: Linger,
    // Dropped by `Drop` without waiting, because a test's clients may still have open connections.
    runtime: Option<Runtime>,
}

impl Server {
    /// Runs the future that `serve` makes from a listener.
    pub fn run<F>(serve: impl FnOnce(TcpListener, Linger) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::run_with(Linger::default(), serve)
    }

    pub fn run_with<F>(linger: Linger, serve: impl FnOnce(TcpListener, Linger) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        runtime.spawn({
            let _context = runtime.enter();
            serve(listener, linger.clone())
        });
        Self {
            addr,
            linger,
            runtime: Some(runtime),
        }
    }

    /// Runs axum's own `serve` with the socket wrapper around its listener.
    pub fn wrapped(app: Router) -> Self {
        Self::run(|listener, linger| async move {
            axum::serve(linger.listener(listener), app).await.unwrap();
        })
    }

    /// Runs our `axum::serve`: delivery and linger combined.
    pub fn combined(app: Router) -> Self {
        Self::run(|listener, linger| async move {
            tower_bodyguard::axum::serve(listener, app)
                .with_linger(&linger)
                .await
                .unwrap();
        })
    }

    /// Returns one server of each kind.
    pub fn both(app: &Router) -> [Self; 2] {
        [Self::wrapped(app.clone()), Self::combined(app.clone())]
    }

    /// Runs axum's own `serve` without this crate.
    pub fn plain(app: Router) -> Self {
        Self::run(|listener, _| async move {
            axum::serve(listener, app).await.unwrap();
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Returns an app that responds with the length of the body. `/` reads frame by frame, `/bytes`
/// uses an extractor.
pub fn counting() -> Router {
    Router::new()
        .route("/", any(count))
        .route(
            "/bytes",
            any(|body: Bytes| async move { format!("{}", body.len()) }),
        )
        .layer(DefaultBodyLimit::disable())
}

async fn count(body: Body) -> Result<String, String> {
    let mut frames = body.into_data_stream();
    let mut sum = 0;
    while let Some(frame) = frames.next().await {
        sum += frame.map_err(|error| error.to_string())?.len();
    }
    Ok(sum.to_string())
}

/// Returns the counting app behind the limit layer.
pub fn guarded(limit: u64) -> Router {
    counting().layer(BodyGuardLayer::new(limit))
}

/// Returns the counting app behind tower-http's limit, which axum's users have today.
pub fn limited(limit: usize) -> Router {
    counting().layer(RequestBodyLimitLayer::new(limit))
}

/// Responds with the total length of the parts. An error of the form becomes 418, a status that
/// nothing else here returns.
pub async fn multipart(mut form: Multipart) -> Result<String, StatusCode> {
    let mut sum = 0;
    while let Some(field) = form
        .next_field()
        .await
        .map_err(|_| StatusCode::IM_A_TEAPOT)?
    {
        sum += field
            .bytes()
            .await
            .map_err(|_| StatusCode::IM_A_TEAPOT)?
            .len();
    }
    Ok(sum.to_string())
}
