//! The promises of this crate over real QUIC connections, with h3-axum as the control.

#[path = "../support/h3_client.rs"]
mod h3_client;
#[path = "../support/servers.rs"]
mod servers;

mod body;
mod bounds;
mod early;
mod handshake;
mod raw;
mod shutdown;
