//! What the hook knows of a connection, and hands over when the server lets go of it.

use super::handle::Permit;
use crate::{budget::Discarding, shared::peer::Peer};

/// What is left of a connection when the server lets go of it.
pub(super) struct LingerHandoff<T> {
    pub(super) io: T,
    /// Whose slot it takes.
    /// Known for a connection that is shared with delivery.
    pub(super) peer: Option<Peer>,
    pub(super) half_closed: HalfClosed,
    /// What was discarded while the answer was written.
    pub(super) discarding: Option<Discarding>,
    pub(super) owes: Owes,
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
    /// After a write that begins so. A client may speak HTTP/1.0 in one request and HTTP/1.1 in
    /// the next, and the latest response counts; hyper begins a write with its head.
    pub(super) fn after(self, bytes: &[u8]) -> Self {
        if bytes.starts_with(b"HTTP/1.0 ") {
            Self::ToTheEnd
        } else if self == Self::Nothing || bytes.starts_with(b"HTTP/1.1 ") {
            Self::Framed
        } else {
            self
        }
    }
}

/// What may still come from the client, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owes {
    /// Nothing: a plain close disturbs nobody.
    Nothing,
    /// A request that it may have sent before it saw the end of the connection. Everything
    /// else was read, or there was no request yet.
    PerhapsAnother,
    /// The rest of a request, or nobody knows.
    Anything,
}
