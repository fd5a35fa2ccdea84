//! Decides when a drain or a lingering close ends. Bytes and times go in, a decision comes out.
//! No clock, no IO.

use std::time::{Duration, Instant};

use crate::shared::standing::Standing;

/// The limits of one drain or lingering close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The timeout since the client last sent bytes.
    pub(crate) idle: Duration,
    /// The timeout since the start.
    pub(crate) total: Duration,
    /// The maximum number of bytes to discard, or `None` for no limit.
    pub(crate) bytes: Option<u64>,
    /// The minimum rate. Discarding ends early for a client that sends more slowly.
    pub(crate) least: Option<Least>,
    /// A client that keeps this rate may send for longer than `total`.
    pub(crate) good: Option<Good>,
}

/// A minimum rate that applies once a grace is over: a new connection is slow at first.
///
/// If the client sends faster than the rate, the surplus keeps the rate for some time after. That
/// time is at most the grace, clamped to between 1 s and [`AHEAD`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Least {
    /// The rate in bytes per second.
    pub(crate) rate: u64,
    pub(crate) grace: Duration,
}

/// A rate that extends the total timeout, and the extended timeout.
///
/// If the client sends faster than the rate, the surplus keeps the rate for at most [`AHEAD`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Good {
    /// The rate in bytes per second.
    pub(crate) rate: u64,
    pub(crate) total: Duration,
}

/// The longest time for which surplus bytes keep a rate. If a client sends a burst, and then only
/// a byte now and then, it no longer keeps the rate after this time.
const AHEAD: Duration = Duration::from_secs(10);

impl Least {
    fn ahead(self) -> Duration {
        self.grace.clamp(Duration::from_secs(1), AHEAD)
    }
}

impl Bounds {
    /// The default limits of a lingering close. The first two are nginx's `lingering_timeout` and
    /// `lingering_time`. A 500 MB video at 20 Mbit/s takes 200 s, which the rate allows.
    pub(crate) const LINGERING_CLOSE: Self = Self {
        good: Some(Good {
            rate: 128 << 10,
            total: Duration::from_secs(600),
        }),
        ..Self::new(Duration::from_secs(5), Duration::from_secs(30), None)
    };

    /// Returns limits without rates.
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

/// The reason why a drain or a lingering close stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// The body ended, or the client closed its side of the connection. Or the response was sent,
    /// and the lingering close took over from the drain.
    Completed,
    /// The client reset the connection or the stream.
    Reset,
    /// The client sent nothing for too long.
    IdleTimeout,
    /// The total timeout was reached.
    Timeout,
    /// More bytes arrived than the limit for discarding.
    MaxBytes,
    /// The client sent too slowly.
    MinRate,
    /// Another connection needed its slot.
    Evicted,
    /// The server shut down.
    Shutdown,
}

impl StopReason {
    /// All reasons.
    pub(crate) const ALL: [Self; 8] = [
        Self::Completed,
        Self::Reset,
        Self::IdleTimeout,
        Self::Timeout,
        Self::MaxBytes,
        Self::MinRate,
        Self::Evicted,
        Self::Shutdown,
    ];

    /// Returns the reason as one word for labels and logs.
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

/// The state of one drain or lingering close.
#[derive(Clone, Debug)]
pub(crate) struct Discarding {
    created: Instant,
    /// The start of the timeouts: the time of creation, or of the last restart.
    started: Instant,
    last_received: Instant,
    discarded: u64,
    least: Kept,
    good: Kept,
    /// Its standing among others, if it competes with them for a slot.
    standing: Option<Standing>,
}

/// A leaky bucket: the bytes since the start, capped at the amount that a rate gives for the
/// elapsed time plus a time ahead.
///
/// Its unit is bytes times nanoseconds per second, so that nothing is rounded.
#[derive(Clone, Copy, Debug, Default)]
struct Kept(u128);

impl Kept {
    /// Counts bytes that arrived `elapsed` after the start.
    fn received(&mut self, bytes: u64, elapsed: Duration, rate: u64, ahead: Duration) {
        let most = elapsed.saturating_add(ahead).as_nanos();
        let most = most.saturating_mul(rate.into());
        let came = u128::from(bytes) * 1_000_000_000;
        self.0 = self.0.saturating_add(came).min(most);
    }

    /// Returns for how long after the start these bytes keep `rate`.
    ///
    /// It rounds up to the next nanosecond: bytes may arrive just in time, and
    /// [`Discarding::over_at`] may be called at that same time.
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
            created: now,
            started: now,
            last_received: now,
            discarded: 0,
            least: Kept::default(),
            good: Kept::default(),
            standing: None,
        }
    }

    /// Makes this compete for a slot. From now on, received bytes improve its `standing`.
    pub(crate) fn compete(&mut self, standing: Standing) {
        self.standing = Some(standing);
    }

    /// Returns whether it has lost its slot to another, and has to end.
    pub(crate) fn is_evicted(&self) -> bool {
        self.standing.as_ref().is_some_and(Standing::is_evicted)
    }

    pub(crate) fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Returns the time since it was created, including the time before a restart.
    pub(crate) fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.created)
    }

    /// Restarts the timeouts and the rates. The byte limit keeps its count.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.started = now;
        self.last_received = now;
        self.least = Kept::default();
        self.good = Kept::default();
    }

    /// Records `bytes` that were received and discarded. Returns the reason to stop, if there is
    /// one.
    pub(crate) fn received(
        &mut self,
        bytes: u64,
        now: Instant,
        bounds: &Bounds,
    ) -> Option<StopReason> {
        self.last_received = now;
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

    /// Returns the reason to stop at `now`, if there is one.
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
        } else if now.saturating_duration_since(self.last_received) >= bounds.idle {
            Some(StopReason::IdleTimeout)
        } else if bounds.least.is_some_and(is_slow) {
            Some(StopReason::MinRate)
        } else {
            None
        }
    }

    /// Returns the longest time to wait from `now` before the next call of
    /// [`over_at`](Self::over_at).
    pub(crate) fn max_wait(&self, now: Instant, bounds: &Bounds) -> Duration {
        let idle = left(bounds.idle, now, self.last_received);
        let since_start = |timeout| left(timeout, now, self.started);
        let total = match (bounds.good, since_start(bounds.total)) {
            (Some(good), Duration::ZERO) => since_start(good.total.min(self.good.lasts(good.rate))),
            (_, total) => total,
        };
        let rate = bounds.least.map_or(Duration::MAX, |least| {
            since_start(least.grace.max(self.least.lasts(least.rate)))
        });
        idle.min(total).min(rate)
    }
}

fn left(timeout: Duration, now: Instant, since: Instant) -> Duration {
    timeout.saturating_sub(now.saturating_duration_since(since))
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

    /// Receives `rate` bytes each second until a limit stops it. Returns the second and the reason.
    fn steady(rate: u64, bounds: &Bounds) -> (u64, StopReason) {
        let start = Instant::now();
        let mut discarding = Discarding::new(start);
        for second in 1.. {
            let now = start + Duration::from_secs(second);
            if let Some(reason) = discarding.received(rate, now, bounds) {
                return (second, reason);
            }
        }
        unreachable!("every timeout is reached");
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
        // After 28 s the client has sent enough for 68 s. Then it sends a byte now and then.
        let burst = start + secs(28.0);
        for second in 1..7 {
            let now = start + secs(4.0) * second;
            assert_eq!(discarding.received(4 * GOOD.rate, now, &bounds), None);
        }
        assert_eq!(discarding.received(44 * GOOD.rate, burst, &bounds), None);
        assert_eq!(
            discarding.received(1, start + secs(33.0), &bounds),
            None,
            "bytes sent ahead count"
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

    /// Generates limits with all kinds of rates and timeouts.
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
        /// Receives any bytes, or waits for `max_wait` and calls `over_at` again. This ends no
        /// later than the longest total timeout, and `max_wait` is never zero before that.
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
                // It is never over before the wait ends.
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

        /// After `2 * AHEAD`, a client may go on only if it has kept half of the rate, on average,
        /// within the last `2 * AHEAD`. Older bytes do not count.
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
            let (mut now, mut arrivals) = (start, Vec::new());
            for (gap, bytes) in pieces {
                now += Duration::from_millis(gap);
                if discarding.over_at(now, &bounds).is_some() {
                    break;
                }
                if now >= start + 2 * AHEAD {
                    let recent = arrivals.iter().filter(|(at, _)| *at + 2 * AHEAD >= now);
                    let recent: u64 = recent.map(|(_, bytes)| bytes).sum();
                    prop_assert!(recent >= RATE * AHEAD.as_secs() - 1, "{recent}");
                }
                arrivals.push((now, bytes));
                discarding.received(bytes, now, &bounds);
            }
        }
    }
}
