//! Serves axum apps and tower services over HTTP/3, so that early responses arrive.
//!
//! # The problem
//!
//! A server responds before it has read the whole request body, for example with a 413. Over HTTP/3
//! it then asks the client to stop (`STOP_SENDING`). With h3 and quinn, the code of that is 0, which
//! curl reports as an error, and Chromium's `fetch` waits for its upload and never settles,
//! whatever the code is.
//!
//! # What this crate does
//!
//! - [`serve`](serve()) puts [`Delivery`](tower_bodyguard::Delivery) around the service of each
//!   connection. The unread body is read after the response, within the limits of
//!   [`StreamLinger::http3`](tower_bodyguard::StreamLinger::http3).
//! - When a limit is reached, the client is asked to stop with `H3_NO_ERROR`, and only once it has
//!   the whole response.
//! - [`RequestBody`] holds the client to the length that it declared, and knows its end.
//!
//! # Example
//!
//! ```no_run
//! use axum::{Router, routing::post};
//! use tower_bodyguard::{BodyGuardLayer, MIB};
//!
//! # async fn run(config: quinn::ServerConfig) -> std::io::Result<()> {
//! let app = Router::new()
//!     .route("/", post(|body: String| async { body }))
//!     .layer(BodyGuardLayer::axum(4 * MIB));
//! let endpoint = quinn::Endpoint::server(config, "0.0.0.0:443".parse().unwrap())?;
//! tower_bodyguard_h3::serve(endpoint, app).await
//! # }
//! ```
//!
//! The rustls config of `quinn::ServerConfig` needs the protocol `h3` in `alpn_protocols`. Browsers
//! come over TCP first, and switch when a response there has the header
//! [`Alt-Svc`](https://www.rfc-editor.org/rfc/rfc7838).
//!
//! # Features
//!
//! - `quinn`, on by default: [`serve`](serve()) and [`quic`]. Without it, [`RequestBody`] is left,
//!   for other implementations of `h3::quic`.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body_error;
#[cfg(feature = "quinn")]
mod connection;
#[cfg(feature = "quinn")]
pub mod quic;
mod request_body;
#[cfg(feature = "quinn")]
mod response;
#[cfg(feature = "quinn")]
mod serve;

#[cfg(feature = "quinn")]
pub use self::serve::{Serve, ServeFuture, serve};
pub use self::{
    body_error::RequestBodyError,
    request_body::{RequestBody, ResponseGuard},
};

/// The snippets of the README compile.
#[cfg(all(doctest, feature = "quinn"))]
#[doc = include_str!("../README.md")]
mod readme {}
