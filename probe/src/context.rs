//! The target, the options and the connections, which all clients share.

use std::{fmt::Display, time::Duration};

use http::{
    Request, header,
    uri::{Authority, Uri},
};
use tokio::time::sleep_until;

use crate::{
    body::Body, connection::Connector, http3::Endpoint, options::Options, socket::Log,
    target::Target,
};

/// The target, the options and the connections, which all clients share.
pub(crate) struct Context {
    pub(crate) target: Target,
    pub(crate) options: Options,
    pub(crate) connector: Connector,
    /// The way to the server over QUIC, or the reason why there is none.
    pub(crate) http3: Result<Endpoint, String>,
}

impl Context {
    /// Returns the head of an upload over HTTP/2 or HTTP/3, or why it cannot be sent.
    pub(crate) fn request(&self, body: &Body) -> Result<Request<()>, String> {
        request(&self.target, &self.options, body)
    }
}

/// The headers of connections, which HTTP/2 and HTTP/3 lack (RFC 9113 §8.2.2, RFC 9114 §4.2).
const CONNECTION_HEADERS: [&str; 5] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

fn request(target: &Target, options: &Options, body: &Body) -> Result<Request<()>, String> {
    let mut request = Request::new(());
    *request.method_mut() = options.method.clone();
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_LENGTH, body.length().into());
    headers.insert(
        header::USER_AGENT,
        crate::USER_AGENT.parse().expect("ASCII"),
    );
    let content_type = body.content_type().parse();
    headers.insert(
        header::CONTENT_TYPE,
        content_type.expect("it is of visible characters"),
    );
    headers.extend(options.headers.clone());
    for name in CONNECTION_HEADERS {
        headers.remove(name);
    }
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
    let uri = target.url().as_str().parse::<Uri>();
    let mut uri = uri.expect("a URL without a fragment is a URI");
    if let Some(host) = headers.remove(header::HOST) {
        let authority = Authority::try_from(host.as_bytes());
        let authority = authority.map_err(|error| unsent(format!("Host: {error}")))?;
        let mut parts = uri.into_parts();
        parts.authority = Some(authority);
        uri = Uri::from_parts(parts).expect("it had an authority before");
    }
    *request.uri_mut() = uri;
    Ok(request)
}

/// Returns why a client did not run, if its own HTTP library refuses the request.
pub(crate) fn unsent(why: impl Display) -> String {
    format!("the request could not be sent: {why}")
}

/// Completes when no byte has moved on the connection for `timeout`.
pub(crate) async fn idle(log: &Log, timeout: Duration) {
    loop {
        let moved_at = log.notes().moved_at;
        sleep_until(moved_at + timeout).await;
        if log.notes().moved_at == moved_at {
            return;
        }
    }
}

/// Returns milliseconds with the precision of a microsecond.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[tokio::test]
    async fn host_becomes_the_authority() {
        let target = Target::new("https://127.0.0.1:1/upload?a=b").await.unwrap();
        let mut options = Options::default();
        let value = HeaderValue::from_static;
        options.headers.insert("host", value("other.example:2"));
        options.headers.insert("te", value("trailers"));
        options.headers.insert("upgrade", value("websocket"));
        let body = Body::new(&options);
        let request = request(&target, &options, &body).unwrap();
        assert_eq!(request.uri(), "https://other.example:2/upload?a=b");
        let mut names: Vec<_> = request.headers().keys().collect();
        names.sort_by_key(|name| name.as_str());
        assert_eq!(
            names,
            ["content-length", "content-type", "te", "user-agent"]
        );
    }
}
