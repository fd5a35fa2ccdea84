//! Tests that open thousands of connections and may exhaust the file descriptors of the process.

#[cfg(all(feature = "axum", target_os = "linux"))]
#[path = "../support/server.rs"]
mod server;

mod fairness;
