//! How a slot's holder stands among the others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::sync::{AtomicBool, AtomicU64, Ordering};

/// How fast the past is forgotten: after this time, bytes count for 1/e.
const TAU: f64 = 2e6;

/// A newcomer is taken for a client that sends so many bytes per second.
const NEWCOMER: f64 = 16_384.0;

/// A holder below this rate, in bytes per second, is evicted before all others. A newcomer
/// that sends nothing is below it after 5.5 s.
const DORMANT: f64 = 1024.0;

/// The rate at which a holder sends, in microseconds from a registry's epoch: the time at
/// which its exponentially decayed rate will have fallen to 1 byte per second.
///
/// This *rank* grows only when bytes come, and needs no update as time passes. The order of
/// ranks is the order of the decayed rates at any time.
pub(crate) type Rank = u64;

/// What a holder and the registry share.
#[derive(Debug)]
pub(crate) struct Shared {
    rank: AtomicU64,
    is_evicted: AtomicBool,
}

impl Shared {
    pub(crate) fn rank(&self) -> Rank {
        self.rank.load(Ordering::Relaxed)
    }

    pub(crate) fn evict(&self) {
        self.is_evicted.store(true, Ordering::Release);
    }
}

/// The holder's side of a slot: what it has received, and whether it was evicted.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    epoch: Instant,
    shared: Arc<Shared>,
}

impl Standing {
    pub(crate) fn new(epoch: Instant, now: Instant) -> Self {
        let rank = rank_at(micros(epoch, now), NEWCOMER);
        let shared = Arc::new(Shared {
            rank: AtomicU64::new(rank),
            is_evicted: AtomicBool::new(false),
        });
        Self { epoch, shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Counts what the client has sent. Only the holder's own task may call this.
    pub(crate) fn received(&self, bytes: u64, now: Instant) {
        let rank = grown(self.shared.rank(), bytes, micros(self.epoch, now));
        self.shared.rank.store(rank, Ordering::Relaxed);
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.shared.is_evicted.load(Ordering::Acquire)
    }
}

/// Returns the rank below which a holder is dormant.
pub(crate) fn dormant_below(epoch: Instant, now: Instant) -> Rank {
    rank_at(micros(epoch, now), DORMANT)
}

fn micros(epoch: Instant, now: Instant) -> u64 {
    let since: Duration = now.saturating_duration_since(epoch);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The rank of a steady rate in bytes per second.
fn rank_at(now: u64, rate: f64) -> Rank {
    (now as f64 + TAU * rate.ln()) as u64
}

/// The rank once `bytes` have come: the logarithm of the sum of two levels, in a form that
/// cannot overflow.
fn grown(rank: Rank, bytes: u64, now: u64) -> Rank {
    let before = rank as f64;
    let alone = now as f64 + TAU * (bytes as f64 * 1e6 / TAU).ln();
    let (more, less) = (before.max(alone), before.min(alone));
    let sum = more + TAU * ((less - more) / TAU).exp().ln_1p();
    rank.max(sum as u64)
}

#[cfg(all(test, not(bodyguard_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The decayed rate that a rank stands for, in bytes per second.
    fn rate(rank: Rank, now: u64) -> f64 {
        ((rank as f64 - now as f64) / TAU).exp()
    }

    #[test]
    fn steady_sender_has_rank_of_its_rate() {
        for (bytes, every) in [(60_000, 300_000), (10, 100_000), (1 << 30, 1000)] {
            let expected = bytes as f64 * 1e6 / every as f64;
            let (mut rank, mut now) = (rank_at(0, NEWCOMER), 0);
            while now < 60_000_000 {
                now += every;
                rank = grown(rank, bytes, now);
            }
            let rate = rate(rank, now);
            // It is highest right after bytes have come.
            assert!(
                (0.99..1.1).contains(&(rate / expected)),
                "{rate} {expected}"
            );
        }
    }

    #[test]
    fn silent_newcomer_is_dormant_after_six_seconds() {
        let epoch = Instant::now();
        let after = |seconds| dormant_below(epoch, epoch + Duration::from_secs(seconds));
        let standing = Standing::new(epoch, epoch);
        assert!(standing.shared.rank() > after(5));
        assert!(standing.shared.rank() < after(6));
    }

    proptest! {
        /// No number of bytes, no silence and no clock makes it fall or overflow, and the
        /// same bytes never put a worse sender first.
        #[test]
        fn rank_grows_and_keeps_order(
            ranks in (any::<u32>(), any::<u32>()),
            bytes in any::<u64>(),
            now in 0..u64::MAX / 4,
        ) {
            let (worse, better) = (ranks.0.min(ranks.1).into(), ranks.0.max(ranks.1).into());
            prop_assert!(grown(worse, bytes, now) >= worse);
            prop_assert!(grown(worse, bytes, now) <= grown(better, bytes, now));
            prop_assert_eq!(grown(worse, 0, now), worse);
        }

        #[test]
        fn order_of_ranks_is_order_of_sums(
            pieces in prop::collection::vec((0u64..1_000_000, 0u64..500_000), 1..50),
        ) {
            // The same, but every piece half as large.
            let (mut all, mut half, mut now) = (rank_at(0, NEWCOMER), rank_at(0, NEWCOMER), 0);
            for (bytes, gap) in pieces {
                now += gap;
                all = grown(all, 2 * bytes, now);
                half = grown(half, bytes, now);
                prop_assert!(all >= half);
                prop_assert!(rate(half, now) * 2.0 + 1.0 >= rate(all, now));
            }
        }
    }
}
