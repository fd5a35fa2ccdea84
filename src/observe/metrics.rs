use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

use super::{Discarded, Event, Observer};
use crate::{
    budget::StopReason,
    refusal::{Refusal, RefusalKind},
};

impl Observer {
    /// Returns an observer that counts events with the `metrics` facade (feature `metrics`).
    ///
    /// The application installs the recorder **before it calls this**: the call describes the
    /// metrics to the recorder, and registers each counter with 0 and each histogram without a
    /// value, so that the first event is a rise. The names follow the conventions of Prometheus:
    ///
    /// | metric | kind | labels |
    /// | --- | --- | --- |
    /// | `bodyguard_refusals_total` | counter | `kind` |
    /// | `bodyguard_route_refusals_total` | counter | `kind`, `route`, `status` |
    /// | `bodyguard_drains_total`, `bodyguard_stream_lingers_total`, `bodyguard_lingers_total` | counter | `reason` |
    /// | `bodyguard_drain_bytes_total`, `bodyguard_stream_linger_bytes_total`, `bodyguard_linger_bytes_total` | counter | |
    /// | `bodyguard_drain_duration_seconds`, `bodyguard_stream_linger_duration_seconds`, `bodyguard_linger_duration_seconds` | histogram | |
    ///
    /// The label `kind` is a [`RefusalKind`](crate::limit::RefusalKind), `reason` a
    /// [`StopReason`](crate::StopReason), both as their `as_str` returns them. `route` is
    /// [`Refusal::route`](crate::Refusal::route), as the app writes it, and empty if that is
    /// `None`. `status` is [`Refusal::status`](crate::Refusal::status).
    ///
    /// The series of `bodyguard_route_refusals_total` begin with their first refusal, because the
    /// routes are not known before. So its first refusal is no rise: write alerts with
    /// `bodyguard_refusals_total`, which counts the same refusals.
    ///
    /// The gauges of what is going on now are recorded when the application asks for it:
    /// [`Linger::record_gauges`](crate::Linger::record_gauges),
    /// [`BodyBudget::record_gauges`](crate::BodyBudget::record_gauges).
    ///
    /// ```
    /// use tower_bodyguard::{Linger, LingerConfig, Observer};
    ///
    /// let linger = Linger::new(LingerConfig::new().observer(Observer::metrics()));
    /// ```
    #[must_use]
    pub fn metrics() -> Self {
        describe();
        Self::new(record)
    }
}

fn describe() {
    describe_counter!(REFUSALS, "Requests that the limit layer refused.");
    for kind in RefusalKind::LABELS {
        counter!(REFUSALS, "kind" => kind).increment(0);
    }
    describe_counter!(
        ROUTE_REFUSALS,
        "Requests that the limit layer refused, by the route and the status of the refusal."
    );
    for names in [&DRAIN, &STREAM_LINGER, &LINGER] {
        names.describe();
    }
}

fn record(event: &Event<'_>) {
    let (names, discarded) = match event {
        Event::Refused(refusal) => return record_refusal(refusal),
        Event::Drained(discarded) => (&DRAIN, discarded),
        Event::StreamLingered(discarded) => (&STREAM_LINGER, discarded),
        Event::Lingered(discarded) => (&LINGER, discarded),
        Event::RouteUnknown { .. } | Event::SmallerLimit { .. } => return,
    };
    names.record(discarded);
}

fn record_refusal(refusal: &Refusal) {
    let kind = refusal.kind().as_str();
    counter!(REFUSALS, "kind" => kind).increment(1);
    let route = refusal.route().unwrap_or_default().to_owned();
    let status = refusal.status().as_str().to_owned();
    counter!(ROUTE_REFUSALS, "kind" => kind, "route" => route, "status" => status).increment(1);
}

const REFUSALS: &str = "bodyguard_refusals_total";
const ROUTE_REFUSALS: &str = "bodyguard_route_refusals_total";

struct Names {
    /// The source of the discarded bytes, as the descriptions name it.
    what: &'static str,
    total: &'static str,
    bytes: &'static str,
    duration: &'static str,
}

const DRAIN: Names = Names {
    what: "request bodies that were drained",
    total: "bodyguard_drains_total",
    bytes: "bodyguard_drain_bytes_total",
    duration: "bodyguard_drain_duration_seconds",
};

const STREAM_LINGER: Names = Names {
    what: "HTTP/2 and HTTP/3 streams that were drained after their response",
    total: "bodyguard_stream_lingers_total",
    bytes: "bodyguard_stream_linger_bytes_total",
    duration: "bodyguard_stream_linger_duration_seconds",
};

const LINGER: Names = Names {
    what: "connections that were closed with a lingering close",
    total: "bodyguard_lingers_total",
    bytes: "bodyguard_linger_bytes_total",
    duration: "bodyguard_linger_duration_seconds",
};

impl Names {
    fn describe(&self) {
        let what = self.what;
        describe_counter!(
            self.total,
            format!("The number of {what}, by the reason of the end.")
        );
        for reason in StopReason::ALL {
            counter!(self.total, "reason" => reason.as_str()).increment(0);
        }
        let bytes = format!("Bytes discarded from {what}.");
        describe_counter!(self.bytes, Unit::Bytes, bytes);
        counter!(self.bytes).increment(0);
        let duration = format!("The duration of discarding from {what}.");
        describe_histogram!(self.duration, Unit::Seconds, duration);
        // A histogram is registered when its handle is made.
        drop(histogram!(self.duration));
    }

    fn record(&self, discarded: &Discarded) {
        counter!(self.total, "reason" => discarded.reason.as_str()).increment(1);
        counter!(self.bytes).increment(discarded.bytes);
        histogram!(self.duration).record(discarded.lasted);
    }
}
