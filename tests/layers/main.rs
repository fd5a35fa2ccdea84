//! Tests of the layers, their options, and the claims of the documentation.

#[cfg(feature = "axum")]
#[path = "../support/server.rs"]
mod server;

mod axum_guard;
mod budget;
mod claims;
mod compile_errors;
mod composition;
mod compressed;
mod counts;
mod delivery;
mod documented_tests;
mod language;
mod layout;
mod limits;
mod links;
mod packages;
mod permits;
#[cfg(all(feature = "axum", feature = "axum-server"))]
mod public_types;
mod refusals;
