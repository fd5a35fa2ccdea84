use std::sync::Arc;

use super::{
    config::{KeyOfHead, RequestKey},
    handle::DeliveryHandle,
};
use crate::shared::{connection::Connection, peer::Peer};

/// The state that all requests of a connection share, or all requests of a service if the
/// connection is not known. Each request clones one `Arc`. No other connection changes its count if
/// the service was made for one connection.
#[derive(Debug)]
pub(super) struct DeliveryContext {
    pub(super) handle: Arc<DeliveryHandle>,
    /// Used if the connection is not known.
    pub(super) peer_key: RequestKey,
    pub(super) connection: Option<Arc<Connection>>,
}

impl DeliveryContext {
    /// Returns the user's closure that finds the key of a request's client, if it is needed.
    #[inline]
    pub(super) fn key_of_head(&self) -> Option<&KeyOfHead> {
        match (&self.connection, &self.peer_key) {
            (None, RequestKey::Head(key)) => Some(&**key),
            _ => None,
        }
    }

    /// Returns the client of a request. `key` is what the closure of
    /// [`key_of_head`](Self::key_of_head) has found.
    pub(super) fn peer(&self, key: Option<u64>) -> Peer {
        match (&self.connection, &self.peer_key) {
            (Some(connection), _) => connection.peer(),
            (None, RequestKey::One(peer)) => *peer,
            (None, RequestKey::Each | RequestKey::Head(_)) => Peer::keyed(key),
        }
    }
}
