//! The server that is probed.

use std::net::{IpAddr, SocketAddr};

use tokio::net::lookup_host;
use url::{Host, Url};

/// The server that is probed: one URL, and one address for all connections.
#[derive(Clone, Debug)]
pub struct Target {
    url: Url,
    addr: SocketAddr,
}

/// Why a URL cannot be probed.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The text is not a URL.
    #[error("{0:?} is not a URL ({1}). Give one such as http://127.0.0.1:3000/upload")]
    Malformed(String, url::ParseError),
    /// The URL has another scheme than `http` or `https`.
    #[error("cannot probe {0}://. Give a URL with http:// or https://")]
    Scheme(String),
    /// The URL names no host, or the host has no address.
    #[error("the host of {0} has no address. Check its spelling")]
    NoAddress(Url),
    /// The name could not be looked up.
    #[error("cannot look up the host of {0}: {1}")]
    Lookup(Url, std::io::Error),
}

impl Target {
    /// Parses a URL and looks up its host, once.
    ///
    /// # Errors
    ///
    /// See [`TargetError`].
    pub async fn new(url: &str) -> Result<Self, TargetError> {
        let mut url =
            Url::parse(url).map_err(|error| TargetError::Malformed(url.to_owned(), error))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetError::Scheme(url.scheme().to_owned()));
        }
        url.set_fragment(None);
        let port = url.port_or_known_default().unwrap_or(80);
        let addr = match url.host() {
            Some(Host::Ipv4(ip)) => Some((ip, port).into()),
            Some(Host::Ipv6(ip)) => Some((ip, port).into()),
            Some(Host::Domain(name)) => {
                let addrs = lookup_host((name, port)).await;
                addrs
                    .map_err(|error| TargetError::Lookup(url.clone(), error))?
                    .next()
            }
            None => None,
        };
        match addr {
            Some(addr) => Ok(Self { url, addr }),
            None => Err(TargetError::NoAddress(url)),
        }
    }

    /// Returns the URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the address of all connections.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns whether the server is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.addr.ip() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.to_canonical().is_loopback(),
        }
    }

    /// Returns whether the URL is `https`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Returns the host without brackets, to check the certificate.
    pub(crate) fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        host.trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned()
    }

    /// Returns the value of `Host`.
    pub(crate) fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Returns the path with the query.
    pub(crate) fn path(&self) -> &str {
        &self.url[url::Position::BeforePath..url::Position::AfterQuery]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn url_is_taken_apart() {
        let target = Target::new("http://127.0.0.1:3000/a?b=c#d").await.unwrap();
        assert_eq!(target.path(), "/a?b=c");
        assert_eq!(target.authority(), "127.0.0.1:3000");
        assert!(target.is_loopback() && !target.is_tls());
        let target = Target::new("https://[::1]").await.unwrap();
        assert_eq!(target.path(), "/");
        assert_eq!(target.host(), "::1");
        assert_eq!(target.addr().port(), 443);
        assert!(target.is_loopback() && target.is_tls());
    }

    #[tokio::test]
    async fn addresses_of_others_are_no_loopback() {
        for url in ["http://192.0.2.1/", "http://[2001:db8::1]/"] {
            assert!(!Target::new(url).await.unwrap().is_loopback());
        }
        let mapped = Target::new("http://[::ffff:127.0.0.1]/").await.unwrap();
        assert!(mapped.is_loopback());
    }

    #[tokio::test]
    async fn unusable_urls_are_refused() {
        for (url, words) in [
            ("127.0.0.1:3000", "is not a URL"),
            ("ftp://127.0.0.1/", "cannot probe ftp://"),
        ] {
            let error = Target::new(url).await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
