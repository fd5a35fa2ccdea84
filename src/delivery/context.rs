use std::sync::Arc;

use http::Request;

use super::{config::RequestKey, handle::DeliveryHandle};
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
    /// Returns the request, and the key of its client if the user's closure finds it.
    #[inline]
    pub(super) fn with_key<B>(&self, request: Request<B>) -> (Request<B>, Option<u64>) {
        match (&self.connection, &self.peer_key) {
            (None, RequestKey::Head(key)) => {
                let (head, body) = request.into_parts();
                let key = key(&head);
                (Request::from_parts(head, body), key)
            }
            _ => (request, None),
        }
    }

    /// Returns the client of a request with this [key](Self::with_key).
    pub(super) fn peer(&self, key: Option<u64>) -> Peer {
        match (&self.connection, &self.peer_key) {
            (Some(connection), _) => connection.peer(),
            (None, RequestKey::One(peer)) => *peer,
            (None, RequestKey::Each | RequestKey::Head(_)) => Peer::keyed(key),
        }
    }
}
