//! What the hook knows of a connection, and hands over when the server lets go of it.

use super::handle::Permit;
use crate::{bounds::Discarding, peer::Peer};

/// What is left of a connection when the server lets go of it.
pub(super) struct Left<T> {
    pub(super) io: T,
    /// Whose slot it takes.
    pub(super) peer: Peer,
    pub(super) half_closed: HalfClosed,
    /// What was discarded while the answer was written.
    pub(super) discarding: Option<Discarding>,
    pub(super) permit: Permit,
}

/// Whether the sending side is closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct HalfClosed(pub(super) bool);

/// What the connection has carried to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Nothing,
    /// Answers whose own framing says where they end. Ciphertext is like that: TLS
    /// has its `close_notify` (RFC 9112 §9.8).
    Framed,
    /// Answers of HTTP/1.0, which may go on to the end of the connection.
    ToTheEnd,
}

impl Written {
    /// By the first bytes of the first answer: a connection speaks one version.
    pub(super) fn begins_with(bytes: &[u8]) -> Self {
        match bytes.starts_with(b"HTTP/1.0 ") {
            true => Self::ToTheEnd,
            false => Self::Framed,
        }
    }
}
