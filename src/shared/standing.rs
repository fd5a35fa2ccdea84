//! Ranks the holders of slots by the rate at which their clients send.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::sync::{AtomicBool, AtomicU64, Ordering};

/// The time constant of the rate's decay, in microseconds: after this time, bytes count for 1/e. A
/// longer time would underrate an upload that has just begun.
const TAU: f64 = 1e6;

/// The rate of a newcomer, in bytes per second.
const NEWCOMER: f64 = 1024.0;

/// A holder below this rate, in bytes per second, may be evicted while slots are free. A newcomer
/// that sends nothing falls below it after 2.8 s. A client that sent at [`FAST`] does not fall
/// below it within the 5 s for which it may be silent.
const DORMANT: f64 = 64.0;

/// The maximum rate that counts, in bytes per second. It keeps a client from keeping many slots by
/// sending faster in each.
const FAST: f64 = 24_576.0;

/// The rate at which a holder's client sends, as a time in microseconds from a registry's epoch. At
/// that time the exponentially decayed rate will have fallen to 1 byte per second.
///
/// This *rank* grows only when bytes come, and needs no update as time passes. The order of
/// ranks is the order of the decayed rates at any time.
pub(crate) type Rank = u64;

/// The rank of a rate that is divided by a number of slots. It is below zero for a rate that many
/// slots share soon after the epoch.
pub(super) type SlotRank = i64;

/// The state that a holder and the registry share.
#[derive(Debug)]
pub(crate) struct SharedStanding {
    rank: AtomicU64,
    is_evicted: AtomicBool,
}

impl SharedStanding {
    pub(crate) fn rank(&self) -> Rank {
        self.rank.load(Ordering::Relaxed)
    }

    pub(crate) fn evict(&self) {
        self.is_evicted.store(true, Ordering::Release);
    }
}

/// The holder's side of a slot: it counts received bytes, and shows whether the holder was evicted.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    epoch: Instant,
    shared: Arc<SharedStanding>,
}

impl Standing {
    /// Creates the standing of a client that has sent `sent` bytes by now.
    pub(crate) fn new(epoch: Instant, now: Instant, sent: u64) -> Self {
        let now = micros(epoch, now);
        let rank = grown(rank_at(now, NEWCOMER), sent, now);
        let shared = Arc::new(SharedStanding {
            rank: AtomicU64::new(rank),
            is_evicted: AtomicBool::new(false),
        });
        Self { epoch, shared }
    }

    pub(crate) fn shared(&self) -> &Arc<SharedStanding> {
        &self.shared
    }

    /// Counts the bytes that the client has sent. Only the holder's own task may call this.
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

/// Divides the rate of a rank by a number of slots. This is a subtraction, because ranks are
/// logarithms.
pub(super) fn per_slot(rank: Rank, slots: usize) -> SlotRank {
    let divisor = TAU * (slots.max(1) as f64).ln();
    let rank = SlotRank::try_from(rank).unwrap_or(SlotRank::MAX);
    rank.saturating_sub(divisor as SlotRank)
}

fn micros(epoch: Instant, now: Instant) -> u64 {
    let since: Duration = now.saturating_duration_since(epoch);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Returns the rank of a steady rate in bytes per second.
fn rank_at(now: u64, rate: f64) -> Rank {
    (now as f64 + TAU * rate.ln()) as u64
}

/// Returns the rank after `bytes` have come: the logarithm of the sum of the decayed rate and the
/// rate of the new bytes, in a form that cannot overflow. It does not grow past the rank of
/// [`FAST`].
fn grown(rank: Rank, bytes: u64, now: u64) -> Rank {
    let before = rank as f64;
    let alone = now as f64 + TAU * (bytes as f64 * 1e6 / TAU).ln();
    let (more, less) = (before.max(alone), before.min(alone));
    let sum = more + TAU * ((less - more) / TAU).exp().ln_1p();
    rank.max((sum as u64).min(rank_at(now, FAST)))
}

#[cfg(all(test, not(bodyguard_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the decayed rate of a rank, in bytes per second.
    fn rate(rank: Rank, now: u64) -> f64 {
        ((rank as f64 - now as f64) / TAU).exp()
    }

    #[test]
    fn steady_sender_has_rank_of_its_rate() {
        for (bytes, every) in [(3_000, 150_000), (10, 100_000), (1 << 30, 1000)] {
            let expected = (bytes as f64 * 1e6 / every as f64).min(FAST);
            let (mut rank, mut now) = (rank_at(0, NEWCOMER), 0);
            while now < 60_000_000 {
                now += every;
                rank = grown(rank, bytes, now);
            }
            let rate = rate(rank, now);
            // The rate is highest right after bytes have come.
            assert!(
                (0.99..1.1).contains(&(rate / expected)),
                "{rate} {expected}"
            );
        }
    }

    #[test]
    fn silent_newcomer_is_dormant_after_three_seconds() {
        let epoch = Instant::now();
        let after = |seconds| dormant_below(epoch, epoch + Duration::from_secs(seconds));
        let standing = Standing::new(epoch, epoch, 0);
        assert!(standing.shared.rank() > after(2));
        assert!(standing.shared.rank() < after(3));
    }

    #[test]
    fn rank_per_slot_is_rank_of_shared_rate() {
        let now = 60_000_000;
        for slots in [1, 2, 10, 1024] {
            let shared = rank_at(now, 20_000.0 / slots as f64) as SlotRank;
            let rank = per_slot(rank_at(now, 20_000.0), slots);
            assert!((rank - shared).abs() <= 2, "{rank} {shared}");
        }
        assert!(per_slot(Rank::MAX, 1024) > per_slot(rank_at(now, FAST), 1));
        assert!(per_slot(0, usize::MAX) < per_slot(0, 1));
    }

    proptest! {
        /// No number of bytes, no silence and no clock value makes a rank fall or overflow. The
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
            // `half` gets the same pieces as `all`, each half as large.
            let (mut all, mut half, mut now) = (rank_at(0, NEWCOMER), rank_at(0, NEWCOMER), 0);
            for (bytes, gap) in pieces {
                now += gap;
                all = grown(all, 2 * bytes, now);
                half = grown(half, bytes, now);
                prop_assert!(all >= half);
                prop_assert!(rate(half, now) * 2.001 + 1.0 >= rate(all, now));
            }
        }
    }
}
