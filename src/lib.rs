//! Limits request bodies, and makes sure that the client gets to read the answer.
//!
//! # The problem
//!
//! A server refuses a 20 MB upload with 413, or answers 401, 404 or 429, before it
//! has read the body. Then it closes the socket, with unread data in it, and the
//! kernel sends a reset. The person at the browser does not see the answer but "The
//! connection was reset"; behind a proxy it is a 502. hyper does so, and with it
//! every server built on hyper.
//!
//! # Three parts, each useful alone
//!
//! - [`BodyGuardLayer`] is a tower layer that limits the bodies of requests, by
//!   their declared length and while they stream, and sees to it that the client
//!   is sent 413 whatever the handler makes of the error.
//! - [`Linger`] is a hook around the socket that lets the client finish: it closes
//!   the sending side, discards what still comes, and only then closes. It mends
//!   any early answer of an existing app, whatever limits that has.
//! - [`Delivery`] follows each request body. Where an answer comes before its end, a
//!   small rest is read and the connection kept; otherwise the answer says
//!   `Connection: close`.
//!
//! With the feature `axum`, `tower_bodyguard::axum::serve` combines the latter two.
//!
//! # Example
//!
//! ```no_run
//! # #[cfg(feature = "axum")] {
//! use axum::{Router, body::Bytes, routing::post};
//! use tower_bodyguard::{BodyGuardLayer, MIB};
//! use tower_http::{cors::CorsLayer, trace::TraceLayer};
//!
//! async fn upload(body: Bytes) -> String {
//!     format!("{} bytes\n", body.len())
//! }
//!
//! fn app() -> Router {
//!     Router::new()
//!         .route("/", post(upload))
//!         .layer(BodyGuardLayer::axum(100 * MIB)) // lifts axum's own 2 MB limit, too
//!         .layer(CorsLayer::permissive()) // around the limit: scripts can read the 413
//!         .layer(TraceLayer::new_for_http()) // outermost: the log shows the 413
//! }
//!
//! # async fn run() -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
//! tower_bodyguard::axum::serve(listener, app()).await
//! # }
//! # }
//! ```
//!
//! The last `.layer()` is the outermost. A layer that every response needs, such as CORS and
//! tracing, goes after the limit.
//!
//! # What is promised
//!
//! - A client that sends its whole body before it reads gets the whole answer, and
//!   none of its writes fails, as long as it keeps within the limits of the [config](LingerConfig).
//! - The answer is not held back until the body has been read.
//! - A limit of N bytes admits N and refuses N + 1, with `Content-Length` and with
//!   chunked coding alike.
//! - What is read only to be thrown away is bounded in time, and in bytes where
//!   asked.
//! - Over HTTP/2 a refused upload ends its own stream, and no other.
//!
//! # Features
//!
//! None is on by default; each only adds.
//!
//! - `axum`: `tower_bodyguard::axum::serve`, which replaces axum's own, `BodyGuardLayer::axum`,
//!   and limits of routes.
//! - `http2`: extended CONNECT in `tower_bodyguard::axum::serve`, beside axum's own `http2`.
//! - `axum-server`: `Linger::acceptor`.
//! - `tonic`: `Linger::incoming`.
//! - `tracing` and `metrics`: `Observer::tracing` and `Observer::metrics`.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod budget;
pub mod delivery;
mod error;
pub mod limit;
pub mod linger;
mod missing_features;
mod observe;
mod refusal;
mod serve;
mod shared;
mod tasks;

pub use self::{
    budget::StopReason,
    delivery::{Delivery, DeliveryConfig, DeliveryLayer, Drain, StreamLinger},
    error::BoxError,
    limit::{BodyBudget, BodyBudgetConfig, BodyGuard, BodyGuardLayer, GuardedBody, Limit},
    linger::{Linger, LingerConfig, LingerIo},
    observe::{
        Counters, CountersSnapshot, Discarded, DiscardedCount, Event, Observer, RefusedCount,
    },
    refusal::Refusal,
};

#[cfg(feature = "axum")]
pub use self::serve::axum;
#[cfg(feature = "axum-server")]
pub use self::serve::axum_server;
#[cfg(feature = "tonic")]
pub use self::serve::tonic;

/// 1024 bytes.
pub const KIB: u64 = 1024;
/// 1024 [`KIB`].
pub const MIB: u64 = 1024 * KIB;
/// 1024 [`MIB`].
pub const GIB: u64 = 1024 * MIB;

/// The snippets of the README and of the pages in `docs/` compile.
#[cfg(all(doctest, feature = "axum"))]
mod pages {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../docs/MIGRATING.md")]
    mod migrating {}
    #[doc = include_str!("../docs/LAYERS.md")]
    mod layers {}
    #[doc = include_str!("../docs/HTTP2.md")]
    mod http2 {}
    #[doc = include_str!("../docs/TESTING.md")]
    mod testing {}
}
