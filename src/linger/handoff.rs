//! The state of a connection that `LingerIo` passes to a task when the server drops it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::{half_close::HalfCloseHold, handle::ClosingGuard};
use crate::{budget::Discarding, shared::peer::Peer};

/// A connection that the server has dropped.
pub(super) struct LingerHandoff<T> {
    pub(super) io: T,
    /// The client whose slot the connection takes. Known if the connection is combined with
    /// delivery.
    pub(super) peer: Option<Peer>,
    pub(super) half_closed: HalfClosed,
    /// For what the half-close waits, if it waits at all.
    pub(super) hold: Option<HalfCloseHold>,
    /// The `close_notify` of the server's TLS, which leaves with the half-close.
    pub(super) close_notify: Vec<u8>,
    /// The count of bytes that were discarded while the response was written.
    pub(super) discarding: Option<Discarding>,
    pub(super) owes: Owes,
    pub(super) closing: ClosingGuard,
}

/// Whether the sending side is closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct HalfClosed(pub(super) bool);

/// The kind of response that the connection has carried to the client last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Nothing,
    /// Responses whose framing shows where they end. Ciphertext counts as such, because TLS has its
    /// `close_notify` (RFC 9112 §9.8).
    Framed,
    /// HTTP/1.0 responses, which may end only with the connection.
    ToTheEnd,
}

impl Written {
    /// Returns the state after a write that begins with `bytes`. A client may speak HTTP/1.0 in one
    /// request and HTTP/1.1 in the next, and the latest response counts. hyper begins a write with
    /// its head.
    #[inline]
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

/// The data that the client may still send, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owes {
    /// Nothing: a close without a linger loses no response.
    Nothing,
    /// A request that the client may have sent before it saw that the connection ends. Everything
    /// else was read, or there was no request yet.
    PerhapsAnother,
    /// The remaining part of a request, or unknown data.
    Anything,
}

/// Writes all of `bytes`, and removes what has been written.
///
/// # Errors
///
/// Returns the errors of the socket, and `WriteZero`.
pub(super) fn poll_write_all<T: AsyncWrite + Unpin>(
    io: &mut T,
    cx: &mut Context<'_>,
    bytes: &mut Vec<u8>,
) -> Poll<io::Result<()>> {
    while !bytes.is_empty() {
        match ready!(Pin::new(&mut *io).poll_write(cx, bytes))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => drop(bytes.drain(..written)),
        }
    }
    Poll::Ready(Ok(()))
}
