//! The glue to servers: `Linger::wrap` for accept loops of one's own, and pieces for
//! frameworks, each behind its feature.

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "axum-server")]
pub mod axum_server;
mod delivery_layer;
#[cfg(feature = "tonic")]
pub mod tonic;
mod wrap;
