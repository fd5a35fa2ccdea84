//! What the tests on the wire share: raw clients that see what a kernel does to
//! them, servers to point them at, and the harness for programs from outside.
//!
//! Each test file is its own crate and uses a part of this one.
#![allow(dead_code, unused_imports, unreachable_pub)]

pub mod client;
#[cfg(target_os = "linux")]
pub mod crowd;
pub mod h2;
pub mod outside;
pub mod proxy;
pub mod server;
pub mod tls;

pub use self::client::{Ended, Framing, Outcome, SendFirst};

/// Far above what the sockets' buffers take, on loopback about 4 MiB each.
pub const LARGE: u64 = 64 << 20;
pub const MIB: u64 = 1 << 20;
