//! The target, the options and the connections, which all clients share.

use std::time::Duration;

use tokio::time::sleep_until;

use crate::{
    connection::Connector, http3::Endpoint, options::Options, socket::Log, target::Target,
};

/// The target, the options and the connections, which all clients share.
pub(crate) struct Context {
    pub(crate) target: Target,
    pub(crate) options: Options,
    pub(crate) connector: Connector,
    /// The way to the server over QUIC, or the reason why there is none.
    pub(crate) http3: Result<Endpoint, String>,
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
