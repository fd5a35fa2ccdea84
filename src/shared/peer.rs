//! Which connections belong to one client.

use std::sync::atomic::{AtomicU64, Ordering};

/// The client that a slot counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Peer {
    /// All that has the same key.
    Keyed(u64),
    /// Nothing else: the client is not known.
    Alone(u64),
}

impl Peer {
    /// Returns a peer that nothing else counts for.
    pub(crate) fn alone() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::Alone(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the peer with this key, or one of its own if there is no key.
    pub(crate) fn keyed(key: Option<u64>) -> Self {
        key.map_or_else(Self::alone, Self::Keyed)
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self::alone()
    }
}
