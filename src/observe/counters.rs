use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{Discarded, Event, Observer};
use crate::{budget::StopReason, refusal::RefusalKind};

/// Counts events, for a page of figures or a test.
///
/// ```
/// use tower_bodyguard::{BodyGuardLayer, Counters, Linger, LingerConfig, MIB};
///
/// let counters = Counters::default();
/// let linger = Linger::new(LingerConfig::new().observer(counters.observer()));
/// let guard = BodyGuardLayer::new(4 * MIB).observer(counters.observer());
/// assert_eq!(counters.snapshot().refused.declared, 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    declared: AtomicU64,
    streamed: AtomicU64,
    too_slow: AtomicU64,
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
    stopped: [AtomicU64; REASONS.len()],
}

/// The reasons, in the order of their counters.
const REASONS: [StopReason; 8] = [
    StopReason::Completed,
    StopReason::Reset,
    StopReason::IdleTimeout,
    StopReason::Timeout,
    StopReason::MaxBytes,
    StopReason::MinRate,
    StopReason::Evicted,
    StopReason::Shutdown,
];

/// Where a reason is counted.
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

/// What was counted so far. While requests come and go, the numbers may be apart by
/// those under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CountersSnapshot {
    /// Requests that the guard refused.
    pub refused: RefusedCount,
    /// Bodies that were read on, to keep a connection or to deliver an answer.
    pub drains: DiscardedCount,
    /// Streams of HTTP/2 that were read on after their answer.
    pub stream_lingers: DiscardedCount,
    /// Connections that were lingered for.
    pub lingers: DiscardedCount,
}

/// Refusals, by their [`RefusalKind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedCount {
    /// `Content-Length` over the limit.
    pub declared: u64,
    /// More bytes than the limit.
    pub streamed: u64,
    /// Bytes that came too slowly.
    pub too_slow: u64,
    /// Bodies that the budget had no room for.
    pub over_budget: u64,
    /// A malformed `Content-Length`.
    pub bad_length: u64,
    /// No length, where one is required.
    pub length_required: u64,
}

/// Drains or lingers that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiscardedCount {
    /// What was thrown away, in bytes.
    pub bytes: u64,
    stopped: [u64; REASONS.len()],
}

impl DiscardedCount {
    /// Returns how many stopped for this reason.
    #[must_use]
    pub fn with_reason(&self, reason: StopReason) -> u64 {
        self.stopped[index(reason)]
    }

    /// Yields each reason, and how many stopped for it.
    pub fn by_reason(&self) -> impl Iterator<Item = (StopReason, u64)> + '_ {
        REASONS.into_iter().zip(self.stopped)
    }
}

impl Counters {
    /// What counts, to be given to all the parts.
    #[must_use]
    pub fn observer(&self) -> Observer {
        let counted = Arc::clone(&self.0);
        Observer::new(move |event| counted.count(event))
    }

    /// The counters as they stand.
    #[must_use]
    pub fn snapshot(&self) -> CountersSnapshot {
        let counted = &self.0;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CountersSnapshot {
            refused: RefusedCount {
                declared: get(&counted.declared),
                streamed: get(&counted.streamed),
                too_slow: get(&counted.too_slow),
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
        for (at, reason) in REASONS.into_iter().enumerate() {
            assert_eq!(index(reason), at, "{reason:?}");
        }
    }
}
