//! Test clients that report what the kernel did to their connection, and a harness for programs
//! outside the test process.
//!
//! Nothing here depends on tower-bodyguard. Otherwise cargo would enable the features that it
//! asked for in the tests without features, too.

pub mod client;
#[cfg(target_os = "linux")]
pub mod crowd;
pub mod h2;
pub mod log;
pub mod outside;
pub mod process;
pub mod proxy;
pub mod streams;
pub mod tls;

pub use self::client::{Ended, Framing, Outcome, SendFirst};

/// Exceeds the socket buffers, which take about 4 MiB each on the loopback interface.
pub const LARGE: u64 = 64 << 20;
pub const MIB: u64 = 1 << 20;
