//! Finds the client that a socket belongs to.

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::socket::tcp;
use crate::shared::peer::Peer;

type Key = dyn Fn(SocketAddr) -> Option<u64> + Send + Sync;

/// The function that finds the client whose slots a connection takes: by its address, or by the
/// user's closure.
#[derive(Clone, Default)]
pub(super) struct PeerKey(Option<Arc<Key>>);

impl PeerKey {
    pub(super) fn new<F, K>(key: F) -> Self
    where
        F: Fn(SocketAddr) -> Option<K> + Send + Sync + 'static,
        K: Hash,
    {
        let state = RandomState::new();
        Self(Some(Arc::new(move |addr| Some(state.hash_one(key(addr)?)))))
    }

    pub(super) fn of<T: 'static>(&self, socket: &T) -> Peer {
        let addr = tcp(socket).and_then(|socket| socket.peer_addr().ok());
        addr.map_or_else(Peer::default, |addr| self.of_addr(addr))
    }

    /// Returns the client at an address.
    pub(super) fn of_addr(&self, addr: SocketAddr) -> Peer {
        Peer::keyed(match &self.0 {
            Some(key) => key(addr),
            None => Some(network(addr.ip())),
        })
        .at(addr)
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.0.is_some() { ".." } else { "address" };
        write!(f, "PeerKey({by})")
    }
}

/// Returns the address, or for IPv6 its first 64 bits, which are one client's network. The two
/// cannot be equal, because no IPv6 network begins with 32 zero bits.
fn network(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    fn of(ip: &str) -> u64 {
        network(ip.parse().unwrap())
    }

    #[test]
    fn client_is_address_or_network_of_ipv6() {
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2:0:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }

    #[tokio::test]
    async fn connections_without_a_key_are_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let one = TcpStream::connect(addr).await.unwrap();
        let other = TcpStream::connect(addr).await.unwrap();
        let are_one = |key: PeerKey| key.of(&one).id() == key.of(&other).id();
        assert!(are_one(PeerKey::default()));
        assert!(are_one(PeerKey::new(|addr| Some(addr.ip()))));
        assert!(!are_one(PeerKey::new(|_| None::<u64>)));
        let [one, other] = [(); 2].map(|()| tokio::io::empty());
        let [one, other] = [one, other].map(|socket| PeerKey::default().of(&socket).id());
        assert_ne!(one, other);
    }
}
