//! The hook: a wrapper around the socket that lets the client finish.
//!
//! A server that closes while the client still sends makes the kernel answer
//! with a reset, and the reset destroys the answer on its way. So, where hyper
//! shuts the socket down, the hook sends a FIN only, and where hyper then drops
//! it, a task of a few words reads on, discards, and closes once the client has
//! (RFC 9112 §9.6), or once a bound is reached.
//!
//! This is no `SO_LINGER`: that option is about what is yet to be sent, and does
//! nothing for a client that sends.

mod config;
mod discard;
mod fd_limit;
mod handle;
mod handoff;
mod io;
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
pub use self::{
    config::LingerConfig, handle::Linger, io::LingerIo, shutdown::Shutdown, stats::Stats,
};
