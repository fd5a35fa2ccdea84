//! The crate's server tests, with native-tls beside rustls.

#[path = "../../tests/support/server.rs"]
mod server;
#[path = "../../tests/wire/servers.rs"]
mod servers;
