//! Identifies the connections that belong to one client.

use std::sync::atomic::{AtomicU64, Ordering};

/// The client that a slot counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Peer {
    /// A client with this key.
    Keyed(u64),
    /// A client that is not known, and has no other connection.
    Alone(u64),
}

impl Peer {
    /// Returns a peer that is equal to no other.
    pub(crate) fn alone() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::Alone(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the peer with this key, or a separate peer if there is no key.
    pub(crate) fn keyed(key: Option<u64>) -> Self {
        key.map_or_else(Self::alone, Self::Keyed)
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self::alone()
    }
}
