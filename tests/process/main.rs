//! Tests that replace something global to the process: its allocator, its subscriber or its
//! recorder.

#[cfg(feature = "axum")]
#[path = "../support/server.rs"]
mod server;

mod g8_nothing_to_pay;
mod telemetry;
