//! nginx with the same limit, over TCP and over TLS.

use std::{fs, net::SocketAddr};

use testkit::{
    outside::Need,
    proxy::{self, CLASHES, Daemon, free_addrs},
    tls::Certificate,
};

use super::script::LIMIT;
use crate::server::{Server, counting};

pub(crate) fn need() -> Need {
    proxy::need("nginx")
}

pub(crate) struct Nginx {
    pub(crate) addr: SocketAddr,
    /// The address with TLS: HTTP/1, or HTTP/2 for a client that negotiates it.
    pub(crate) tls: SocketAddr,
    _daemon: Daemon,
    _counting: Server,
}

impl Nginx {
    pub(crate) fn start() -> Self {
        let clashes = (0..CLASHES).find_map(|_| Self::try_start());
        clashes.expect("nginx starts")
    }

    fn try_start() -> Option<Self> {
        let counting = Server::plain(counting());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [addr, tls] = free_addrs();
        let (cert, key) = Certificate::new().pem();
        for (name, pem) in [("cert.pem", cert), ("key.pem", key)] {
            fs::write(folder.path().join(name), pem).expect("the folder can be written");
        }
        let config = include_str!("nginx.conf")
            .replace("LISTEN", &addr.to_string())
            .replace("TLS", &tls.to_string())
            .replace("LIMIT", &LIMIT.to_string())
            .replace("COUNTING", &counting.addr.to_string())
            .replace("NAME", proxy::name(&folder));
        Some(Self {
            addr,
            tls,
            _daemon: Daemon::nginx(folder, &config, addr).ok()?,
            _counting: counting,
        })
    }
}
