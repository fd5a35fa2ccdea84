//! axum: the hook around its listeners, and delivery joined with it.

mod accept;
mod joined;
mod listener;

pub use self::{
    joined::{Joined, JoinedFuture, JoinedResponseFuture, JoinedService},
    listener::{LingerExt, LingerListener, Lingering},
};
