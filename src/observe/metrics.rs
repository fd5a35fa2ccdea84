use metrics::{counter, histogram};

use super::{Discarded, Event, Observer};

impl Observer {
    /// Returns an observer that counts events with the `metrics` facade (feature `metrics`).
    ///
    /// The application installs the recorder. The names follow the conventions of Prometheus:
    ///
    /// | metric | kind | labels |
    /// | --- | --- | --- |
    /// | `bodyguard_refusals_total` | counter | `kind` |
    /// | `bodyguard_drains_total`, `bodyguard_stream_lingers_total`, `bodyguard_lingers_total` | counter | `reason` |
    /// | `bodyguard_drain_bytes_total`, `bodyguard_stream_linger_bytes_total`, `bodyguard_linger_bytes_total` | counter | |
    /// | `bodyguard_drain_duration_seconds`, `bodyguard_stream_linger_duration_seconds`, `bodyguard_linger_duration_seconds` | histogram | |
    ///
    /// [`Linger::stats`](crate::Linger::stats) returns the number of connections that linger now.
    ///
    /// ```
    /// use tower_bodyguard::{Linger, LingerConfig, Observer};
    ///
    /// let linger = Linger::new(LingerConfig::new().observer(Observer::metrics()));
    /// ```
    #[must_use]
    pub fn metrics() -> Self {
        Self::new(record)
    }
}

fn record(event: &Event<'_>) {
    let (names, discarded) = match event {
        Event::Refused(refusal) => {
            let kind = refusal.kind().as_str();
            return counter!("bodyguard_refusals_total", "kind" => kind).increment(1);
        }
        Event::Drained(discarded) => (&DRAIN, discarded),
        Event::StreamLingered(discarded) => (&STREAM_LINGER, discarded),
        Event::Lingered(discarded) => (&LINGER, discarded),
        Event::RouteUnknown { .. } | Event::SmallerLimit { .. } => return,
    };
    names.record(discarded);
}

struct Names {
    total: &'static str,
    bytes: &'static str,
    duration: &'static str,
}

const DRAIN: Names = Names {
    total: "bodyguard_drains_total",
    bytes: "bodyguard_drain_bytes_total",
    duration: "bodyguard_drain_duration_seconds",
};

const STREAM_LINGER: Names = Names {
    total: "bodyguard_stream_lingers_total",
    bytes: "bodyguard_stream_linger_bytes_total",
    duration: "bodyguard_stream_linger_duration_seconds",
};

const LINGER: Names = Names {
    total: "bodyguard_lingers_total",
    bytes: "bodyguard_linger_bytes_total",
    duration: "bodyguard_linger_duration_seconds",
};

impl Names {
    fn record(&self, discarded: &Discarded) {
        counter!(self.total, "reason" => discarded.reason.as_str()).increment(1);
        counter!(self.bytes).increment(discarded.bytes);
        histogram!(self.duration).record(discarded.lasted);
    }
}
