//! Support for servers: `Linger::wrap` for custom accept loops, and a module for each framework,
//! behind its feature.

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "axum-server")]
pub mod axum_server;
mod delivery_layer;
#[cfg(feature = "tonic")]
pub mod tonic;
mod wrap;
