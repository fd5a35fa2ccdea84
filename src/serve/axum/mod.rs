//! Glue for axum: [`serve`], which replaces `axum::serve`, the socket wrapper for axum's
//! listeners, and the limit layer with axum's own bodies.

mod accept;
mod bodies;
mod connection;
mod default_limit;
mod guard;
mod head_timeout;
mod incoming;
mod listener;
mod serve;

pub use self::{
    guard::{AxumGuard, AxumGuardFuture, AxumGuardLayer, MakeAxumGuard},
    incoming::IncomingStream,
    listener::{LingerListener, Lingering},
    serve::{Serve, ServeFuture, serve},
};
