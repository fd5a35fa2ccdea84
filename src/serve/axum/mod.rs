//! axum: the hook around its listeners, delivery joined with it, and the guard with axum's
//! own bodies.

mod accept;
mod bodies;
mod default_limit;
mod guard;
mod joined;
mod listener;

pub use self::{
    guard::{AxumGuard, AxumGuardFuture, AxumGuardLayer, MakeAxumGuard},
    joined::{Joined, JoinedFuture, JoinedResponseFuture, JoinedService},
    listener::{LingerExt, LingerListener, Lingering},
};
