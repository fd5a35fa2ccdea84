//! Limits request bodies, and makes sure that the client receives the early response.
//!
//! # The problem
//!
//! A server sends an early response to a 20 MB upload: 413, 401, 404 or 429, before it has
//! read the body. Then it closes the socket while unread data is in it, and the kernel sends
//! a reset. The browser shows "The connection was reset" instead of the response. Behind a
//! proxy, the client gets a 502. hyper behaves like this, and so does every server built on
//! hyper.
//!
//! # Three independent parts
//!
//! - [`BodyGuardLayer`] is a tower layer that limits request bodies, by their declared length
//!   and while they stream. It responds with 413, no matter how the handler treats the error, unless
//!   it panics.
//! - [`Linger`] wraps the socket and does a lingering close: it closes the sending side,
//!   discards the bytes that still arrive, and only then closes the socket. It delivers any
//!   early response of an existing app, and works with any limits that the app has.
//! - [`Delivery`] follows each request body. When a response comes before the end of the
//!   body, it drains a small remaining body and keeps the connection. Otherwise it sends the
//!   response with `Connection: close`.
//!
//! With the feature `axum`, `tower_bodyguard::axum::serve` combines [`Linger`] and [`Delivery`].
//!
//! # Example
//!
//! ```sh
//! cargo add tower-bodyguard --features axum
//! ```
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
//! The last `.layer()` is the outermost. Some layers have to see every response, such as CORS and
//! tracing. Add them after the limit layer.
//!
//! # Entry points
//!
//! *Yes* means within the limits and timeouts of [`LingerConfig`].
//!
//! | to serve | call | early responses arrive |
//! | --- | --- | --- |
//! | axum | `tower_bodyguard::axum::serve(listener, app)` | yes |
//! | axum, with `axum::serve` unchanged | `axum::serve(linger.listener(listener), app)` | if they fit into the socket's buffers |
//! | hyper, hyper-util | `linger.wrap(socket, service)` | yes |
//! | axum-server | `.acceptor(linger.acceptor())` | yes |
//! | tonic | `.layer(linger.delivery_layer())` and `.serve_with_incoming(linger.incoming(tcp))` | yes |
//!
//! # Guarantees
//!
//! - A client that sends its whole body before it reads gets the whole response, and none of
//!   its writes fails. This holds within the limits of the [config](LingerConfig).
//! - The response does not wait until the body has been read.
//! - A limit of N bytes admits N and refuses N + 1, with `Content-Length` and with
//!   chunked coding alike.
//! - Draining and discarding are limited in time, and in bytes if such a limit is set.
//! - Over HTTP/2 and HTTP/3 a refused upload ends its own stream, and no other.
//!
//! # Guides
//!
//! With the feature `axum`, the module `guide` has the guides: recipes, migrating, layers, servers,
//! proxies, testing, how it works, tuning, HTTP/2, HTTP/3, platforms,
//! versions.
//!
//! # Features
//!
//! None is on by default; each only adds.
//!
//! - `axum`: `BodyGuardLayer::axum`, limits by route, and `tower_bodyguard::axum::serve`, which
//!   replaces `axum::serve`.
//! - `http2`: extended CONNECT in `tower_bodyguard::axum::serve`. Enable axum's own
//!   `http2` feature as well.
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
mod warn;

pub use self::{
    budget::StopReason,
    delivery::{
        config::{DeliveryConfig, Drain, StreamLinger},
        layer::DeliveryLayer,
        service::Delivery,
    },
    error::BoxError,
    limit::{
        body_budget::{config::BodyBudgetConfig, shared::BodyBudget},
        layer::BodyGuardLayer,
        policy::Limit,
        request_body::GuardedBody,
        service::BodyGuard,
    },
    linger::{config::LingerConfig, handle::Linger, io::LingerIo},
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

/// The guides of the repository's `docs` folder.
///
/// They exist in the documentation only. On docs.rs, links between them lead to these pages, and
/// others to the source of the package (`docs/links.html`).
#[cfg(all(any(doc, doctest), feature = "axum"))]
pub mod guide {
    // Some recipes compile with these features only.
    #[cfg(any(
        not(doctest),
        all(feature = "axum-server", feature = "metrics", feature = "tracing")
    ))]
    #[doc = include_str!("../docs/RECIPES.md")]
    pub mod recipes {}
    #[doc = include_str!("../docs/MIGRATING.md")]
    pub mod migrating {}
    #[doc = include_str!("../docs/LAYERS.md")]
    pub mod layers {}
    #[doc = include_str!("../docs/SERVERS.md")]
    pub mod servers {}
    #[doc = include_str!("../docs/PROXIES.md")]
    pub mod proxies {}
    #[doc = include_str!("../docs/TESTING.md")]
    pub mod testing {}
    #[doc = include_str!("../docs/HOW_IT_WORKS.md")]
    pub mod how_it_works {}
    #[doc = include_str!("../docs/TUNING.md")]
    pub mod tuning {}
    #[doc = include_str!("../docs/HTTP2.md")]
    pub mod http2 {}
    #[doc = include_str!("../docs/HTTP3.md")]
    pub mod http3 {}
    #[doc = include_str!("../docs/EARLY_RESPONSES.md")]
    pub mod early_responses {}
    #[doc = include_str!("../docs/OBSERVABILITY.md")]
    pub mod observability {}
    #[doc = include_str!("../docs/CAPACITY.md")]
    pub mod capacity {}
    #[doc = include_str!("../docs/PLATFORMS.md")]
    pub mod platforms {}
    #[doc = include_str!("../docs/VERSIONS.md")]
    pub mod versions {}
}

/// The snippets of the README compile.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
mod readme {}
