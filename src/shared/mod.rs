//! The state that threads share: a few words and short locks, without tokio.
//!
//! `loom/` includes this whole folder, and checks it in every order of events.

pub(crate) mod connection;
pub(crate) mod flow;
pub(crate) mod group;
pub(crate) mod limit_signal;
pub(crate) mod peer;
pub(crate) mod registry;
pub(crate) mod standing;
pub(crate) mod sync;
pub(crate) mod waker_slot;
pub(crate) mod write_gate;
