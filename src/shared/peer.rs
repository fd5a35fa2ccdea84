//! Identifies the connections that belong to one client.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

/// The client of a connection or of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peer {
    /// `None` if the client is not known. Each of its slots is then another client's.
    id: Option<PeerId>,
    addr: Option<SocketAddr>,
}

/// The client that a slot counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PeerId {
    /// A client with this key.
    Keyed(u64),
    /// A client that is not known, and has no other connection.
    Alone(u64),
}

impl Peer {
    /// Returns the peer with this key, or a separate peer if there is no key.
    pub(crate) fn keyed(key: Option<u64>) -> Self {
        Self {
            id: key.map(PeerId::Keyed),
            addr: None,
        }
    }

    /// Adds the address, which is for the log.
    pub(crate) fn at(mut self, addr: SocketAddr) -> Self {
        self.addr = Some(addr);
        self
    }

    /// Gives a peer that is not known an identity, so that all of its slots count for one client.
    pub(crate) fn identified(mut self) -> Self {
        self.id = Some(self.id());
        self
    }

    /// Returns the client whose slots the peer takes. For a peer that is not known, each call
    /// returns a new client.
    pub(crate) fn id(&self) -> PeerId {
        self.id.unwrap_or_else(PeerId::alone)
    }

    pub(crate) fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }
}

impl PeerId {
    /// Returns an identity that is equal to no other.
    pub(crate) fn alone() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::Alone(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}
