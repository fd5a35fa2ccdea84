//! The glue to servers: `Linger::join` for accept loops of one's own, and pieces for
//! frameworks, each behind its feature.

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "axum-server")]
mod axum_server;
mod delivery_layer;
mod join;
#[cfg(feature = "tonic")]
mod tonic;

#[cfg(feature = "axum")]
pub use self::axum::{
    AxumGuard, AxumGuardFuture, AxumGuardLayer, Joined, JoinedFuture, JoinedResponseFuture,
    JoinedService, LingerExt, LingerListener, Lingering, MakeAxumGuard,
};
#[cfg(feature = "axum-server")]
pub use self::axum_server::{LingerAccepting, LingerAcceptor};
#[cfg(feature = "tonic")]
pub use self::tonic::LingerIncoming;
