//! The crate's own modules over loom's atomics and locks: each model runs in every order
//! that its threads can take, and with everything that the memory model lets them see.
//!
//! A wake-up that is lost shows as a deadlock, upon which loom panics, and most often the
//! process aborts: the last of the panics names the model.
#![cfg(test)]
#![allow(dead_code, reason = "a model uses a part of what it includes")]

#[path = "../../src/shared/mod.rs"]
mod shared;

mod connection_models;
mod limit_signal_models;
mod registry_models;
mod write_gate_models;
