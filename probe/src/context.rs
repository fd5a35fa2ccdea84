//! The target, the options and the connections, which all clients share.

use std::time::Duration;

use http::{Request, header};
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
    /// Returns the head of an upload over HTTP/2 or HTTP/3.
    pub(crate) fn request(&self, body: &Body) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = self.options.method.clone();
        let uri = self.target.url().as_str().parse();
        *request.uri_mut() = uri.expect("a URL without a fragment is a URI");
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
        headers.extend(self.options.headers.clone());
        request
    }
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
