//! When reading only to throw away ends: bytes and times in, a verdict out. No
//! clock, no IO.

use std::time::{Duration, Instant};

/// The bounds of one drain or linger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The longest silence of the client.
    pub(crate) idle: Duration,
    /// The longest it may take in all.
    pub(crate) total: Duration,
    /// The most bytes to discard, `None` for no bound.
    pub(crate) bytes: Option<u64>,
}

/// How a drain or a linger ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// There is nothing more: the body has ended, or the client closed its side.
    Complete,
    /// The body or the socket failed: the client reset it, most often.
    Reset,
    /// The client was silent for too long.
    Idle,
    /// It took too long.
    Total,
    /// More bytes came than were to be discarded.
    Bytes,
    /// The runtime ended before.
    Dropped,
}

/// The state of one drain or linger.
#[derive(Debug)]
pub(crate) struct Discarding {
    started: Instant,
    heard: Instant,
    discarded: u64,
}

impl Discarding {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            started: now,
            heard: now,
            discarded: 0,
        }
    }

    pub(crate) fn discarded(&self) -> u64 {
        self.discarded
    }

    /// The times begin anew; the bytes go on.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.started = now;
        self.heard = now;
    }

    /// `bytes` came, and were discarded.
    pub(crate) fn received(&mut self, bytes: u64, now: Instant, bounds: &Bounds) -> Option<End> {
        self.heard = now;
        self.discarded = self.discarded.saturating_add(bytes);
        match bounds.bytes {
            Some(most) if self.discarded > most => Some(End::Bytes),
            _ => self.over_at(now, bounds),
        }
    }

    /// Nothing came.
    pub(crate) fn over_at(&self, now: Instant, bounds: &Bounds) -> Option<End> {
        if now.saturating_duration_since(self.started) >= bounds.total {
            Some(End::Total)
        } else if now.saturating_duration_since(self.heard) >= bounds.idle {
            Some(End::Idle)
        } else {
            None
        }
    }

    /// From `now`, how long to wait at most before asking [`over_at`](Self::over_at).
    pub(crate) fn patience(&self, now: Instant, bounds: &Bounds) -> Duration {
        let total = left(bounds.total, now, self.started);
        let idle = left(bounds.idle, now, self.heard);
        total.min(idle)
    }
}

fn left(bound: Duration, now: Instant, since: Instant) -> Duration {
    bound.saturating_sub(now.saturating_duration_since(since))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        idle: Duration::from_secs(5),
        total: Duration::from_secs(30),
        bytes: None,
    };

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_silent_client_is_left_after_the_idle_bound() {
        let start = Instant::now();
        let discarding = Discarding::new(start);
        assert_eq!(discarding.patience(start, &BOUNDS), secs(5.0));
        assert_eq!(discarding.over_at(start + secs(4.9), &BOUNDS), None);
        assert_eq!(
            discarding.over_at(start + secs(5.0), &BOUNDS),
            Some(End::Idle)
        );
    }

    #[test]
    fn a_drip_ends_at_the_total() {
        let start = Instant::now();
        let mut discarding = Discarding::new(start);
        for drip in 1..=6 {
            let now = start + secs(4.9) * drip;
            assert_eq!(discarding.received(1, now, &BOUNDS), None);
        }
        let now = start + secs(29.4);
        assert_eq!(discarding.patience(now, &BOUNDS), secs(0.6));
        assert_eq!(
            discarding.over_at(start + secs(30.0), &BOUNDS),
            Some(End::Total)
        );
    }

    #[test]
    fn the_byte_bound_itself_may_come() {
        let start = Instant::now();
        let bounds = Bounds {
            bytes: Some(10),
            ..BOUNDS
        };
        let mut discarding = Discarding::new(start);
        assert_eq!(discarding.received(10, start, &bounds), None);
        assert_eq!(discarding.received(1, start, &bounds), Some(End::Bytes));
        assert_eq!(discarding.discarded(), 11);
    }

    #[test]
    fn times_beyond_reckoning_do_no_harm() {
        let start = Instant::now();
        let bounds = Bounds {
            idle: Duration::MAX,
            total: Duration::MAX,
            bytes: None,
        };
        let mut discarding = Discarding::new(start);
        assert_eq!(discarding.received(u64::MAX, start, &bounds), None);
        assert_eq!(discarding.received(u64::MAX, start, &bounds), None);
        assert_eq!(discarding.patience(start, &bounds), Duration::MAX);
    }

    proptest! {
        /// Whatever comes, asking again after its patience ends it by the
        /// total, and never later.
        #[test]
        fn ends_by_the_total(
            idle in 1u64..60_000,
            total in 1u64..60_000,
            gaps in prop::collection::vec((0u64..5_000, any::<bool>()), 0..200),
        ) {
            let bounds = Bounds {
                idle: Duration::from_millis(idle),
                total: Duration::from_millis(total),
                bytes: None,
            };
            let start = Instant::now();
            let mut discarding = Discarding::new(start);
            let mut now = start;
            let mut end = None;
            for (gap, comes) in gaps {
                let wait = discarding.patience(now, &bounds);
                prop_assert!(wait > Duration::ZERO);
                let gap = Duration::from_millis(gap);
                if comes && gap < wait {
                    now += gap;
                    end = discarding.received(1, now, &bounds);
                } else {
                    now += wait;
                    end = discarding.over_at(now, &bounds);
                }
                prop_assert!(now <= start + bounds.total);
                if end.is_some() {
                    break;
                }
            }
            if end.is_none() {
                let wait = discarding.patience(now, &bounds);
                prop_assert!(discarding.over_at(now + wait, &bounds).is_some());
            }
        }
    }
}
