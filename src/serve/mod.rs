//! The glue to servers, each piece behind its feature.

#[cfg(feature = "axum")]
mod axum;

#[cfg(feature = "axum")]
pub use self::axum::{
    AxumBodies, Joined, JoinedFuture, JoinedService, LingerExt, LingerListener, Lingering,
};
