//! When reading only to throw away ends: bytes and times in, a verdict out. No
//! clock, no IO.

use std::time::{Duration, Instant};

use crate::shared::standing::Standing;

/// The bounds of one drain or linger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The longest silence of the client.
    pub(crate) idle: Duration,
    /// The longest it may take in all.
    pub(crate) total: Duration,
    /// The most bytes to discard, `None` for no bound.
    pub(crate) bytes: Option<u64>,
    /// A client that sends less is left before the total.
    pub(crate) least: Option<Least>,
    /// A client that sends at least so much may go on beyond the total.
    pub(crate) good: Option<Good>,
}

/// A rate that holds once a grace is over: a connection takes some time to get going.
///
/// What was sent ahead counts for no longer than the grace, within 1 s and [`AHEAD`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Least {
    /// Bytes per second.
    pub(crate) rate: u64,
    pub(crate) grace: Duration,
}

/// The rate of somebody who is worth waiting for, and how long at most.
///
/// What was sent ahead counts for no longer than [`AHEAD`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Good {
    /// Bytes per second.
    pub(crate) rate: u64,
    pub(crate) total: Duration,
}

/// For how long bytes that were sent ahead keep a rate: a client that sends much at once and
/// then a byte now and then does not have the rate any more.
const AHEAD: Duration = Duration::from_secs(10);

impl Least {
    fn ahead(self) -> Duration {
        self.grace.clamp(Duration::from_secs(1), AHEAD)
    }
}

impl Bounds {
    /// Without rates.
    pub(crate) const fn new(idle: Duration, total: Duration, bytes: Option<u64>) -> Self {
        Self {
            idle,
            total,
            bytes,
            least: None,
            good: None,
        }
    }
}

/// Why a drain or a lingering close stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// The body ended, or the client closed its side: it had all the time it wanted. Or the
    /// response was out, and the lingering close has taken over.
    Completed,
    /// The client reset it.
    Reset,
    /// The client was silent for too long.
    IdleTimeout,
    /// It took too long.
    Timeout,
    /// More bytes came than were to be discarded.
    MaxBytes,
    /// The client sent too slowly.
    MinRate,
    /// Another connection needed its slot.
    Evicted,
    /// The server shut down.
    Shutdown,
}

impl StopReason {
    /// Returns one word, for a label or a log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Reset => "reset",
            Self::IdleTimeout => "idle_timeout",
            Self::Timeout => "timeout",
            Self::MaxBytes => "max_bytes",
            Self::MinRate => "min_rate",
            Self::Evicted => "evicted",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The state of one drain or linger.
#[derive(Clone, Debug)]
pub(crate) struct Discarding {
    begun: Instant,
    /// As `begun`, until it is restarted.
    started: Instant,
    heard: Instant,
    discarded: u64,
    least: Kept,
    good: Kept,
    /// Its place among others, if it competes with them.
    standing: Option<Standing>,
}

/// A leaky bucket: what came since the start, less what came too far ahead of a rate.
///
/// In bytes times nanoseconds per second, so that nothing is rounded.
#[derive(Clone, Copy, Debug, Default)]
struct Kept(u128);

impl Kept {
    /// Counts bytes that came so long after the start.
    fn received(&mut self, bytes: u64, elapsed: Duration, rate: u64, ahead: Duration) {
        let most = elapsed.saturating_add(ahead).as_nanos();
        let most = most.saturating_mul(rate.into());
        let came = u128::from(bytes) * 1_000_000_000;
        self.0 = self.0.saturating_add(came).min(most);
    }

    /// For how long, from the start, this makes a rate in bytes per second: to the
    /// nanosecond above, for what has come in time may be asked about then.
    fn lasts(self, rate: u64) -> Duration {
        let nanoseconds = self.0.checked_div(rate.into());
        nanoseconds.map_or(Duration::MAX, |nanoseconds| {
            Duration::from_nanos(
                u64::try_from(nanoseconds)
                    .unwrap_or(u64::MAX)
                    .saturating_add(1),
            )
        })
    }
}

impl Discarding {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            begun: now,
            started: now,
            heard: now,
            discarded: 0,
            least: Kept::default(),
            good: Kept::default(),
            standing: None,
        }
    }

    /// From now on, what comes counts for a place among others.
    pub(crate) fn compete(&mut self, standing: Standing) {
        self.standing = Some(standing);
    }

    /// Whether it has to end because another needs its slot.
    pub(crate) fn is_evicted(&self) -> bool {
        self.standing.as_ref().is_some_and(Standing::is_evicted)
    }

    pub(crate) fn discarded(&self) -> u64 {
        self.discarded
    }

    /// How long it has taken until now, in all.
    pub(crate) fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }

    /// The times begin anew; the bytes go on.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.started = now;
        self.heard = now;
        self.least = Kept::default();
        self.good = Kept::default();
    }

    /// `bytes` came, and were discarded.
    pub(crate) fn received(
        &mut self,
        bytes: u64,
        now: Instant,
        bounds: &Bounds,
    ) -> Option<StopReason> {
        self.heard = now;
        self.discarded = self.discarded.saturating_add(bytes);
        let elapsed = now.saturating_duration_since(self.started);
        if let Some(least) = bounds.least {
            self.least
                .received(bytes, elapsed, least.rate, least.ahead());
        }
        if let Some(good) = bounds.good {
            self.good.received(bytes, elapsed, good.rate, AHEAD);
        }
        if let Some(standing) = &self.standing {
            standing.received(bytes, now);
        }
        match bounds.bytes {
            Some(most) if self.discarded > most => Some(StopReason::MaxBytes),
            _ => self.over_at(now, bounds),
        }
    }

    /// Nothing came.
    pub(crate) fn over_at(&self, now: Instant, bounds: &Bounds) -> Option<StopReason> {
        let elapsed = now.saturating_duration_since(self.started);
        let total = match bounds.good {
            Some(good) if elapsed < self.good.lasts(good.rate) => good.total.max(bounds.total),
            _ => bounds.total,
        };
        let is_slow =
            |least: Least| elapsed >= least.grace && elapsed >= self.least.lasts(least.rate);
        if elapsed >= total {
            Some(StopReason::Timeout)
        } else if now.saturating_duration_since(self.heard) >= bounds.idle {
            Some(StopReason::IdleTimeout)
        } else if bounds.least.is_some_and(is_slow) {
            Some(StopReason::MinRate)
        } else {
            None
        }
    }

    /// From `now`, how long to wait at most before asking [`over_at`](Self::over_at).
    pub(crate) fn max_wait(&self, now: Instant, bounds: &Bounds) -> Duration {
        let idle = left(bounds.idle, now, self.heard);
        let of_all = |bound| left(bound, now, self.started);
        let total = match (bounds.good, of_all(bounds.total)) {
            (Some(good), Duration::ZERO) => of_all(good.total.min(self.good.lasts(good.rate))),
            (_, total) => total,
        };
        let rate = bounds.least.map_or(Duration::MAX, |least| {
            of_all(least.grace.max(self.least.lasts(least.rate)))
        });
        idle.min(total).min(rate)
    }
}

fn left(bound: Duration, now: Instant, since: Instant) -> Duration {
    bound.saturating_sub(now.saturating_duration_since(since))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds::new(Duration::from_secs(5), Duration::from_secs(30), None);

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_silent_client_is_left_after_the_idle_bound() {
        let start = Instant::now();
        let discarding = Discarding::new(start);
        assert_eq!(discarding.max_wait(start, &BOUNDS), secs(5.0));
        assert_eq!(discarding.over_at(start + secs(4.9), &BOUNDS), None);
        assert_eq!(
            discarding.over_at(start + secs(5.0), &BOUNDS),
            Some(StopReason::IdleTimeout)
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
        assert_eq!(discarding.max_wait(now, &BOUNDS), secs(0.6));
        assert_eq!(
            discarding.over_at(start + secs(30.0), &BOUNDS),
            Some(StopReason::Timeout)
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
        assert_eq!(
            discarding.received(1, start, &bounds),
            Some(StopReason::MaxBytes)
        );
        assert_eq!(discarding.discarded(), 11);
    }

    #[test]
    fn times_beyond_reckoning_do_no_harm() {
        let start = Instant::now();
        let bounds = Bounds::new(Duration::MAX, Duration::MAX, None);
        let mut discarding = Discarding::new(start);
        assert_eq!(discarding.received(u64::MAX, start, &bounds), None);
        assert_eq!(discarding.received(u64::MAX, start, &bounds), None);
        assert_eq!(discarding.max_wait(start, &bounds), Duration::MAX);
    }

    const GOOD: Good = Good {
        rate: 128 * 1024,
        total: Duration::from_secs(600),
    };

    /// So many bytes each second, until it ends.
    fn steady(rate: u64, bounds: &Bounds) -> (u64, StopReason) {
        let start = Instant::now();
        let mut discarding = Discarding::new(start);
        for second in 1.. {
            let now = start + Duration::from_secs(second);
            if let Some(end) = discarding.received(rate, now, bounds) {
                return (second, end);
            }
        }
        unreachable!("every bound comes");
    }

    #[test]
    fn a_good_rate_goes_beyond_the_total() {
        let bounds = Bounds {
            good: Some(GOOD),
            ..BOUNDS
        };
        assert_eq!(steady(GOOD.rate, &bounds), (600, StopReason::Timeout));
        assert_eq!(steady(GOOD.rate - 1, &bounds), (30, StopReason::Timeout));
    }

    #[test]
    fn good_client_that_tires_is_left_after_what_it_sent_ahead() {
        let bounds = Bounds {
            good: Some(GOOD),
            ..BOUNDS
        };
        let start = Instant::now();
        let mut discarding = Discarding::new(start);
        // After 28 s it has sent for 68, and then sends a byte now and then.
        let burst = start + secs(28.0);
        for second in 1..7 {
            let now = start + secs(4.0) * second;
            assert_eq!(discarding.received(4 * GOOD.rate, now, &bounds), None);
        }
        assert_eq!(discarding.received(44 * GOOD.rate, burst, &bounds), None);
        assert_eq!(
            discarding.received(1, start + secs(33.0), &bounds),
            None,
            "what is ahead counts"
        );
        let now = start + secs(37.0);
        assert_eq!(discarding.received(1, now, &bounds), None);
        let left = discarding.max_wait(now, &bounds);
        assert!(left > secs(0.99) && left < secs(1.01), "{left:?}");
        assert_eq!(
            discarding.over_at(now + left, &bounds),
            Some(StopReason::Timeout)
        );
    }

    #[test]
    fn burst_at_start_gives_no_extended_timeout() {
        let bounds = Bounds {
            good: Some(GOOD),
            ..BOUNDS
        };
        let start = Instant::now();
        let mut discarding = Discarding::new(start);
        assert_eq!(discarding.received(600 * GOOD.rate, start, &bounds), None);
        for drip in 1..=7 {
            let now = start + secs(4.0) * drip;
            assert_eq!(discarding.received(1, now, &bounds), None);
        }
        assert_eq!(
            discarding.received(1, start + secs(30.0), &bounds),
            Some(StopReason::Timeout)
        );
    }

    #[test]
    fn burst_counts_for_minimum_rate_no_longer_than_grace() {
        let least = Least {
            rate: 240,
            grace: secs(5.0),
        };
        let bounds = Bounds {
            least: Some(least),
            ..BOUNDS
        };
        let start = Instant::now();
        let mut discarding = Discarding::new(start);
        assert_eq!(
            discarding.received(1 << 20, start + secs(2.0), &bounds),
            None
        );
        assert_eq!(discarding.received(1, start + secs(6.9), &bounds), None);
        assert_eq!(
            discarding.received(1, start + secs(7.1), &bounds),
            Some(StopReason::MinRate)
        );
    }

    #[test]
    fn a_slow_client_is_left_after_its_grace() {
        let least = Least {
            rate: 240,
            grace: secs(5.0),
        };
        let bounds = Bounds {
            least: Some(least),
            ..BOUNDS
        };
        assert_eq!(steady(239, &bounds), (5, StopReason::MinRate));
        assert_eq!(steady(240, &bounds), (30, StopReason::Timeout));
    }

    /// Rates and totals of all kinds.
    fn bounds() -> impl Strategy<Value = Bounds> {
        let times = (1u64..60_000, 1u64..60_000, 1u64..120_000, 0u64..60_000);
        let rates = prop::option::of(0u64..10_000);
        (times, rates.clone(), rates).prop_map(|((idle, total, longest, grace), least, good)| {
            let (idle, total) = (Duration::from_millis(idle), Duration::from_millis(total));
            Bounds {
                least: least.map(|rate| Least {
                    rate,
                    grace: Duration::from_millis(grace),
                }),
                good: good.map(|rate| Good {
                    rate,
                    total: Duration::from_millis(longest),
                }),
                ..Bounds::new(idle, total, None)
            }
        })
    }

    proptest! {
        /// Whatever comes, asking again after its patience ends it by the longest
        /// total, and never later; and it is never asked to wait no time at all.
        #[test]
        fn ends_by_the_total(
            bounds in bounds(),
            gaps in prop::collection::vec((0u64..5_000, 0u64..100_000), 0..200),
        ) {
            let longest = bounds.good.map_or(bounds.total, |good| good.total.max(bounds.total));
            let start = Instant::now();
            let mut discarding = Discarding::new(start);
            let mut now = start;
            let mut end = None;
            for (gap, bytes) in gaps {
                let wait = discarding.max_wait(now, &bounds);
                prop_assert!(wait > Duration::ZERO);
                // Nor is it ever over before.
                let before = now + (wait - Duration::from_nanos(1));
                prop_assert_eq!(discarding.over_at(before, &bounds), None);
                let gap = Duration::from_millis(gap);
                if bytes > 0 && gap < wait {
                    now += gap;
                    end = discarding.received(bytes, now, &bounds);
                } else {
                    now += wait;
                    end = discarding.over_at(now, &bounds);
                }
                prop_assert!(now <= start + longest);
                if end.is_some() {
                    break;
                }
            }
            let mut asked = 0;
            while end.is_none() {
                now += discarding.max_wait(now, &bounds);
                end = discarding.over_at(now, &bounds);
                asked += 1;
                prop_assert!(now <= start + longest && asked < 10);
            }
        }

        /// A client that goes on beyond the total, or below no rate, has sent half of the
        /// rate at least in what it may be ahead, twice: nothing older counts.
        #[test]
        fn only_recent_bytes_make_a_rate(
            pieces in prop::collection::vec(
                (0u64..3_000, prop_oneof![4 => 0u64..500_000, 1 => 0u64..60_000_000]),
                1..100,
            ),
            is_least in any::<bool>(),
        ) {
            const RATE: u64 = 1_000_000;
            let hours = Duration::from_secs(10_000);
            let grace = secs(12.0);
            let bounds = match is_least {
                true => Bounds {
                    least: Some(Least { rate: RATE, grace }),
                    ..Bounds::new(hours, hours, None)
                },
                false => Bounds {
                    good: Some(Good { rate: RATE, total: hours }),
                    ..Bounds::new(hours, grace, None)
                },
            };
            let start = Instant::now();
            let mut discarding = Discarding::new(start);
            let (mut now, mut came) = (start, Vec::new());
            for (gap, bytes) in pieces {
                now += Duration::from_millis(gap);
                if discarding.over_at(now, &bounds).is_some() {
                    break;
                }
                if now >= start + 2 * AHEAD {
                    let recent = came.iter().filter(|(at, _)| *at + 2 * AHEAD >= now);
                    let recent: u64 = recent.map(|(_, bytes)| bytes).sum();
                    prop_assert!(recent >= RATE * AHEAD.as_secs() - 1, "{recent}");
                }
                came.push((now, bytes));
                discarding.received(bytes, now, &bounds);
            }
        }
    }
}
