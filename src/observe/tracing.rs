use http::Method;

use super::{Discarded, Event, Observer};
use crate::budget::StopReason;

impl Observer {
    /// Returns an observer that logs each event with `tracing` (feature `tracing`).
    ///
    /// The target is `tower_bodyguard`:
    ///
    /// | message | level | fields |
    /// | --- | --- | --- |
    /// | `refused` | INFO | `kind`, `status`, `method`, `route`, `path`, `peer`, `limit_bytes`, `declared_bytes`, `received_bytes` |
    /// | `drained`, `stream lingered`, `lingered` | DEBUG | `reason`, `peer`, `discarded_bytes`, `lasted_seconds` |
    /// | the same, if it was evicted or the client was too slow | WARN | the same |
    ///
    /// Numbers of bytes are `u64`, seconds are `f64`. A field without a value is left out. If
    /// [`route`](crate::Refusal::route) is known, `path` is left out. The `peer` of a refusal needs
    /// axum's `ConnectInfo`: see [`Refusal::peer`](crate::Refusal::peer). The others take the
    /// address of the connection: see [`Discarded::peer`].
    ///
    /// The limit layer itself logs [`Event::RouteUnknown`] and [`Event::SmallerLimit`].
    ///
    /// ```
    /// use tower_bodyguard::{BodyGuardLayer, Linger, LingerConfig, MIB, Observer};
    ///
    /// let linger = Linger::new(LingerConfig::new().observer(Observer::tracing()));
    /// let layer = BodyGuardLayer::new(4 * MIB).observer(Observer::tracing());
    /// ```
    #[must_use]
    pub fn tracing() -> Self {
        Self::new(trace)
    }
}

fn trace(event: &Event<'_>) {
    match event {
        Event::Refused(refusal) => tracing::info!(
            target: "tower_bodyguard",
            kind = refusal.kind().as_str(),
            status = refusal.status().as_u16(),
            method = refusal.method().map(Method::as_str),
            route = refusal.route(),
            path = refusal.path().filter(|_| refusal.route().is_none()),
            peer = refusal.peer().map(tracing::field::display),
            limit_bytes = refusal.limit(),
            declared_bytes = refusal.declared(),
            received_bytes = refusal.received(),
            "refused"
        ),
        Event::Drained(discarded) => trace_discarded("drained", discarded),
        Event::StreamLingered(discarded) => trace_discarded("stream lingered", discarded),
        Event::Lingered(discarded) => trace_discarded("lingered", discarded),
        // The layer logs these itself, with any observer and with none.
        Event::RouteUnknown { .. } | Event::SmallerLimit { .. } => {}
    }
}

fn trace_discarded(what: &str, discarded: &Discarded) {
    let reason = discarded.reason.as_str();
    let peer = discarded.peer.map(tracing::field::display);
    let bytes = discarded.bytes;
    let seconds = discarded.lasted.as_secs_f64();
    match discarded.reason {
        StopReason::Evicted | StopReason::MinRate => tracing::warn!(
            target: "tower_bodyguard",
            reason,
            peer,
            discarded_bytes = bytes,
            lasted_seconds = seconds,
            "{what}"
        ),
        _ => tracing::debug!(
            target: "tower_bodyguard",
            reason,
            peer,
            discarded_bytes = bytes,
            lasted_seconds = seconds,
            "{what}"
        ),
    }
}
