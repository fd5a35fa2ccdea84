//! The crate's own modules over loom's atomics and locks. Each model runs in every order that its
//! threads can take, and with every value that the memory model lets them see.
//!
//! A lost wake-up shows as a deadlock. loom then panics, and usually the process aborts. The last
//! panic names the model.
#![cfg(test)]
#![allow(dead_code, reason = "a model uses a part of what it includes")]

#[path = "../../src/shared/mod.rs"]
mod shared;

mod connection_models;
mod limit_signal_models;
mod registry_models;
mod write_gate_models;
