//! Tests that replace something of the whole process: its allocator, its subscriber and its
//! recorder.

#[cfg(feature = "axum")]
#[path = "../support/server.rs"]
mod server;

mod g8_nothing_to_pay;
mod telemetry;
