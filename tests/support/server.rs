//! Servers in a runtime of their own, stopped when they are dropped.
//!
//! Each binary is its own crate, and uses a part of this module.
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
    // Behind an `Option` for the drop only: without waiting, for the clients of a
    // test may still have connections open.
    runtime: Option<Runtime>,
}

impl Server {
    /// Runs what `serve` makes of a listener.
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

    /// axum's own `serve`, with the hook around its listener.
    pub fn hooked(app: Router) -> Self {
        Self::run(|listener, linger| async move {
            axum::serve(linger.listener(listener), app).await.unwrap();
        })
    }

    /// axum's own `serve`, with hook and delivery joined.
    pub fn joined(app: Router) -> Self {
        Self::run(|listener, linger| async move {
            tower_bodyguard::axum::serve(listener, app)
                .with_linger(&linger)
                .await
                .unwrap();
        })
    }

    /// One of each kind.
    pub fn both(app: &Router) -> [Self; 2] {
        [Self::hooked(app.clone()), Self::joined(app.clone())]
    }

    /// axum's own `serve`, and nothing of ours around its listener.
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

/// `/` says how many bytes came, reading frame by frame; `/bytes` with an extractor.
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

/// The counting app behind a guard.
pub fn guarded(limit: u64) -> Router {
    counting().layer(BodyGuardLayer::new(limit))
}

/// The same behind what axum's users have today.
pub fn limited(limit: usize) -> Router {
    counting().layer(RequestBodyLimitLayer::new(limit))
}

/// Says how many bytes the parts have; an error of the form is 418, which nobody else
/// answers.
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
