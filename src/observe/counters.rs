use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{Discarded, Event, Observer};
use crate::{budget::StopReason, refusal::RefusalKind};

/// Counters of events that a metrics page or a test can read.
///
/// ```
/// use tower_bodyguard::{BodyGuardLayer, Counters, Linger, LingerConfig, MIB};
///
/// let counters = Counters::default();
/// let linger = Linger::new(LingerConfig::new().observer(counters.observer()));
/// let layer = BodyGuardLayer::new(4 * MIB).observer(counters.observer());
/// assert_eq!(counters.snapshot().refused.declared, 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    declared: AtomicU64,
    streamed: AtomicU64,
    too_slow: AtomicU64,
    idle_timeout: AtomicU64,
    deadline: AtomicU64,
    over_budget: AtomicU64,
    bad_length: AtomicU64,
    length_required: AtomicU64,
    drains: Tally,
    stream_lingers: Tally,
    lingers: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    bytes: AtomicU64,
    stopped: [AtomicU64; StopReason::ALL.len()],
}

/// Returns the index of the counter for a reason.
const fn index(reason: StopReason) -> usize {
    match reason {
        StopReason::Completed => 0,
        StopReason::Reset => 1,
        StopReason::IdleTimeout => 2,
        StopReason::Timeout => 3,
        StopReason::MaxBytes => 4,
        StopReason::MinRate => 5,
        StopReason::Evicted => 6,
        StopReason::Shutdown => 7,
    }
}

/// A snapshot of [`Counters`].
///
/// The counters are read one after another. While requests are in progress, the numbers may not
/// match exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CountersSnapshot {
    /// Requests that the limit layer refused.
    pub refused: RefusedCount,
    /// Request bodies that were drained, to keep a connection or to deliver a response.
    pub drains: DiscardedCount,
    /// HTTP/2 and HTTP/3 streams whose body was drained after their response.
    pub stream_lingers: DiscardedCount,
    /// Connections that were closed with a lingering close.
    pub lingers: DiscardedCount,
}

/// The number of refusals by their [`RefusalKind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedCount {
    /// Requests with a `Content-Length` over the limit.
    pub declared: u64,
    /// Requests whose body went over the limit while it streamed.
    pub streamed: u64,
    /// Requests whose body was slower than the minimum rate.
    pub too_slow: u64,
    /// Bodies whose client was silent for longer than the [idle
    /// timeout](crate::BodyGuardLayer::idle_timeout).
    pub idle_timeout: u64,
    /// Bodies that did not end before their [deadline](crate::BodyGuardLayer::deadline).
    pub deadline: u64,
    /// Requests whose body had no room in the budget.
    pub over_budget: u64,
    /// Requests with a malformed `Content-Length`.
    pub bad_length: u64,
    /// Requests without a length, if one is required.
    pub length_required: u64,
}

/// The number of drains or lingering closes that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiscardedCount {
    /// The number of bytes that were discarded.
    pub bytes: u64,
    stopped: [u64; StopReason::ALL.len()],
}

impl DiscardedCount {
    /// Returns how many stopped for `reason`.
    #[must_use]
    pub fn with_reason(&self, reason: StopReason) -> u64 {
        self.stopped[index(reason)]
    }

    /// Returns an iterator over the reasons, each with the number that stopped for it.
    pub fn by_reason(&self) -> impl Iterator<Item = (StopReason, u64)> + '_ {
        StopReason::ALL.into_iter().zip(self.stopped)
    }
}

impl Counters {
    /// Returns an observer that counts events. Pass it to all parts of this crate.
    #[must_use]
    pub fn observer(&self) -> Observer {
        let counted = Arc::clone(&self.0);
        Observer::new(move |event| counted.count(event))
    }

    /// Returns the current counts.
    #[must_use]
    pub fn snapshot(&self) -> CountersSnapshot {
        let counted = &self.0;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CountersSnapshot {
            refused: RefusedCount {
                declared: get(&counted.declared),
                streamed: get(&counted.streamed),
                too_slow: get(&counted.too_slow),
                idle_timeout: get(&counted.idle_timeout),
                deadline: get(&counted.deadline),
                over_budget: get(&counted.over_budget),
                bad_length: get(&counted.bad_length),
                length_required: get(&counted.length_required),
            },
            drains: counted.drains.count(),
            stream_lingers: counted.stream_lingers.count(),
            lingers: counted.lingers.count(),
        }
    }
}

impl Counted {
    fn count(&self, event: &Event<'_>) {
        let kind = match event {
            Event::Refused(refusal) => refusal.kind(),
            Event::Drained(discarded) => return self.drains.add(discarded),
            Event::StreamLingered(discarded) => return self.stream_lingers.add(discarded),
            Event::Lingered(discarded) => return self.lingers.add(discarded),
            Event::RouteUnknown { .. } | Event::SmallerLimit { .. } => return,
        };
        let counter = match kind {
            RefusalKind::Declared { .. } => &self.declared,
            RefusalKind::Streamed { .. } => &self.streamed,
            RefusalKind::TooSlow { .. } => &self.too_slow,
            RefusalKind::IdleTimeout { .. } => &self.idle_timeout,
            RefusalKind::DeadlineExceeded { .. } => &self.deadline,
            RefusalKind::OverBudget { .. } => &self.over_budget,
            RefusalKind::BadLength => &self.bad_length,
            RefusalKind::LengthRequired => &self.length_required,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Tally {
    fn add(&self, discarded: &Discarded) {
        self.bytes.fetch_add(discarded.bytes, Ordering::Relaxed);
        self.stopped[index(discarded.reason)].fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> DiscardedCount {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiscardedCount {
            bytes: get(&self.bytes),
            stopped: self.stopped.each_ref().map(get),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_counter() {
        for (expected, reason) in StopReason::ALL.into_iter().enumerate() {
            assert_eq!(index(reason), expected, "{reason:?}");
        }
    }
}
