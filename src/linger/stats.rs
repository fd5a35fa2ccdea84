use std::sync::atomic::{AtomicU64, Ordering};

use crate::budget::StopReason;

#[derive(Default)]
pub(super) struct LingerCounters {
    started: AtomicU64,
    delivered: AtomicU64,
    cut: AtomicU64,
    discarded: AtomicU64,
}

/// The counters of a [`Linger`](crate::Linger).
///
/// ```
/// use tower_bodyguard::Linger;
///
/// let linger = Linger::default();
/// let stats = linger.stats();
/// assert_eq!((stats.started, stats.lingering()), (0, 0));
/// ```
///
/// The numbers are read one after the other. While connections come and go, they may differ by the
/// connections that change meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that have lingered. A connection is not counted if its client has closed by the
    /// time the server drops it.
    pub started: u64,
    /// How many of these ended because the client closed. It had all the time that it needed to
    /// read its response, or did not want to read it.
    pub delivered: u64,
    /// How many of these ended at a limit, because they were evicted, or because the client reset
    /// them.
    pub cut: u64,
    /// Bytes that were discarded by lingers that have ended.
    pub discarded_bytes: u64,
    /// Bodies that delivery discards now: drains, and streams of HTTP/2 and HTTP/3.
    pub reading: u64,
}

impl Stats {
    /// Returns how many connections linger now.
    #[must_use]
    pub fn lingering(&self) -> u64 {
        self.started.saturating_sub(self.delivered + self.cut)
    }
}

impl LingerCounters {
    pub(super) fn stats(&self, reading: usize) -> Stats {
        // Read the ends before the starts, so that no more connections end than started.
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
