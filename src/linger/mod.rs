//! Lingering closes: a socket wrapper that lets the client finish.
//!
//! If a server closes a socket while the client still sends, the kernel responds to the client with
//! a reset. The reset destroys the HTTP response on its way. So when hyper shuts the socket down,
//! [`LingerIo`] sends only a FIN, or leaves even that to the task if the client still sends a body.
//! When hyper then drops the socket, this small task discards what the client sends. It closes the
//! socket when the client has closed its side (RFC 9112 §9.6), or when a limit is reached.
//!
//! This is not `SO_LINGER`. That option concerns unsent data, and does nothing for a client that
//! still sends.

pub(crate) mod config;
mod discard;
mod fd_limit;
mod gather;
mod half_close;
pub(crate) mod handle;
mod handoff;
pub(crate) mod io;
mod misuse;
mod peer_key;
mod read_tracker;
mod shutdown;
mod socket;
mod stats;
mod task;
mod tls_records;

#[cfg(feature = "axum")]
pub(crate) use self::io::assert_not_wrapped;
pub(crate) use self::{handle::Linger, io::LingerIo};
pub use self::{shutdown::Shutdown, stats::Stats};
