use std::sync::atomic::{AtomicU64, Ordering};

use crate::budget::StopReason;

#[derive(Default)]
pub(super) struct LingerCounters {
    started: AtomicU64,
    delivered: AtomicU64,
    cut: AtomicU64,
    discarded: AtomicU64,
}

/// What a [`Linger`](crate::Linger) has done so far.
///
/// ```
/// use tower_bodyguard::Linger;
///
/// let linger = Linger::default();
/// let stats = linger.stats();
/// assert_eq!((stats.started, stats.lingering()), (0, 0));
/// ```
///
/// The numbers are read one after the other: while connections come and go, they
/// may be apart by those under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that were lingered for. One whose client has closed by the
    /// time the server lets go is none.
    pub started: u64,
    /// Of these, how many ended because the client closed: it had all the time it
    /// wanted to read its answer, or wanted none.
    pub delivered: u64,
    /// Of these, how many ended at a bound, because another needed the place, or because
    /// the client reset.
    pub cut: u64,
    /// Bytes that the lingers that have ended have thrown away.
    pub discarded_bytes: u64,
    /// Bodies that delivery reads on now: drains, and streams of HTTP/2.
    pub reading: u64,
}

impl Stats {
    /// Connections that linger now.
    #[must_use]
    pub fn lingering(&self) -> u64 {
        self.started.saturating_sub(self.delivered + self.cut)
    }
}

impl LingerCounters {
    pub(super) fn stats(&self, reading: usize) -> Stats {
        // Ends before starts, so that nothing ends that never started.
        let delivered = self.delivered.load(Ordering::Acquire);
        let cut = self.cut.load(Ordering::Acquire);
        Stats {
            started: self.started.load(Ordering::Acquire),
            delivered,
            cut,
            discarded_bytes: self.discarded.load(Ordering::Relaxed),
            reading: reading as u64,
        }
    }

    pub(super) fn started(&self) {
        self.started.fetch_add(1, Ordering::Release);
    }

    pub(super) fn ended(&self, end: StopReason, discarded: u64) {
        self.discarded.fetch_add(discarded, Ordering::Relaxed);
        let ends = match end {
            StopReason::Completed => &self.delivered,
            _ => &self.cut,
        };
        ends.fetch_add(1, Ordering::Release);
    }
}
