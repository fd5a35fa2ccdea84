use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::request::Parts;
use tokio::sync::Semaphore;

use super::{MAX_UNITS, UNIT, config::BodyBudgetConfig};

/// A limit in bytes on all the request bodies that a process holds at a time.
///
/// # The problem
///
/// A limit on each body does not limit the memory of a server that buffers bodies: a thousand
/// uploads of 100 MiB, sent at once, are 100 GiB.
///
/// # The limit
///
/// [`BodyGuardLayer::budget`](crate::BodyGuardLayer::budget) has a layer reserve room before the
/// service runs: the declared length of the body, or for a body of unknown length 64 KiB and more
/// as it comes in. The room is free again when the service has responded, or when its future is
/// dropped. Clones share the budget; so do layers, routes and servers that use a clone.
///
/// If there is no room, the request is refused with 503 and `Retry-After`. With a
/// [`wait_timeout`](BodyBudgetConfig::wait_timeout), the body's first read waits for room, in the
/// order in which requests come to that. A body that has been read in part never waits, so that
/// bodies cannot block each other.
///
/// A body that is longer than the whole budget, or than its client's whole share, is refused with
/// 413.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use tower_bodyguard::{BodyBudget, BodyBudgetConfig, BodyGuardLayer, MIB};
///
/// let budget = BodyBudget::new(
///     BodyBudgetConfig::new(512 * MIB).wait_timeout(Duration::from_secs(5)),
/// );
/// let guard = BodyGuardLayer::new(100 * MIB).budget(&budget);
/// assert_eq!(budget.used_bytes(), 0);
/// ```
///
/// # Caveats
///
/// - A client reserves the whole declared length before it has sent a byte. Set
///   [`min_rate`](crate::BodyGuardLayer::min_rate) as well, so that silent clients give their room
///   back, and [`max_share`](BodyBudgetConfig::max_share), so that one client cannot take all.
/// - Room is counted in units of 1 KiB, and a body takes at least one.
/// - A service that hands its body to another task and responds has its room counted as free,
///   while that task goes on.
/// - A service that streams its body to a disk or to another server holds a chunk, and not the
///   body: exempt it with [`Limit::without_budget`](crate::Limit::without_budget).
#[derive(Clone)]
pub struct BodyBudget(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) config: BodyBudgetConfig,
    max_units: u64,
    pub(super) room: Arc<Semaphore>,
    /// The units that each key has, if there are shares.
    by_key: Mutex<HashMap<u64, u64>>,
    pub(super) waiting: AtomicUsize,
}

impl BodyBudget {
    /// Makes a budget with these settings.
    #[must_use]
    pub fn new(config: BodyBudgetConfig) -> Self {
        let max_units = config.max_bytes / UNIT;
        let max_units = max_units.min(Semaphore::MAX_PERMITS as u64);
        Self(Arc::new(Inner {
            config,
            max_units,
            // It is no more than `MAX_PERMITS`, which is a `usize`.
            room: Arc::new(Semaphore::new(max_units as usize)),
            by_key: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// Makes a budget of so many bytes, with the defaults of [`BodyBudgetConfig`].
    #[must_use]
    pub fn max_bytes(max_bytes: u64) -> Self {
        Self::new(BodyBudgetConfig::new(max_bytes))
    }

    /// Returns how many bytes are reserved now, in steps of 1 KiB.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let free = self.0.room.available_permits() as u64;
        self.0.max_units.saturating_sub(free) * UNIT
    }

    /// Returns how many bodies wait for room now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Records the budget with the `metrics` facade (feature `metrics`): the gauges
    /// `bodyguard_budget_max_bytes`, `bodyguard_budget_used_bytes` and
    /// `bodyguard_budget_waiting` (bodies). The label `budget` has the name.
    ///
    /// Call this before the metrics are read, for example in the handler of `/metrics`.
    /// `Observer::metrics` counts the refusals, with the kind `over_budget`.
    #[cfg(feature = "metrics")]
    pub fn record_gauges(&self, name: &'static str) {
        use metrics::{Unit, describe_gauge, gauge};

        let max = "bodyguard_budget_max_bytes";
        describe_gauge!(max, Unit::Bytes, "The room for request bodies.");
        gauge!(max, "budget" => name).set((self.0.max_units * UNIT) as f64);
        let used = "bodyguard_budget_used_bytes";
        describe_gauge!(
            used,
            Unit::Bytes,
            "The room that request bodies have reserved."
        );
        gauge!(used, "budget" => name).set(self.used_bytes() as f64);
        let waiting = "bodyguard_budget_waiting";
        describe_gauge!(waiting, "Request bodies that wait for room.");
        gauge!(waiting, "budget" => name).set(self.waiting() as f64);
    }

    /// Returns the client that has sent a request.
    pub(in crate::limit) fn client(&self, head: &Parts) -> Client<'_> {
        let share = self.0.config.share.as_ref();
        Client {
            budget: self,
            key: share.and_then(|share| (share.key)(head)),
        }
    }

    pub(in crate::limit) fn retry_after(&self) -> Duration {
        self.0.config.retry_after
    }

    pub(super) fn by_key(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        // A count is changed in one step.
        self.0.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to the share of a key; `false` if there is no room in it.
    pub(super) fn add_to_share(&self, key: Option<u64>, units: u64) -> bool {
        let (Some(key), Some(share)) = (key, &self.0.config.share) else {
            return true;
        };
        let mut by_key = self.by_key();
        let used = by_key.get(&key).copied().unwrap_or(0) + units;
        let has_room = used <= share.max_units;
        if has_room {
            by_key.insert(key, used);
        }
        has_room
    }

    pub(super) fn take_from_share(&self, key: Option<u64>, units: u64) {
        let Some(key) = key else { return };
        if let Entry::Occupied(mut used) = self.by_key().entry(key) {
            *used.get_mut() -= units;
            if *used.get() == 0 {
                used.remove();
            }
        }
    }

    pub(super) fn give_back(&self, key: Option<u64>, units: u64) {
        if units > 0 {
            self.take_from_share(key, units);
            self.0.room.add_permits(units as usize);
        }
    }
}

/// A client of a budget, which may have a share of it.
#[derive(Clone, Copy)]
pub(in crate::limit) struct Client<'a> {
    pub(super) budget: &'a BodyBudget,
    pub(super) key: Option<u64>,
}

impl Client<'_> {
    /// Returns the longest body that fits, in bytes.
    pub(in crate::limit) fn longest(self) -> u64 {
        let inner = &self.budget.0;
        let share = inner.config.share.as_ref().filter(|_| self.key.is_some());
        let share = share.map_or(MAX_UNITS, |share| share.max_units);
        inner.max_units.min(MAX_UNITS).min(share) * UNIT
    }

    pub(in crate::limit) fn retry_after(self) -> Duration {
        self.budget.retry_after()
    }
}

impl fmt::Debug for BodyBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyBudget")
            .field("config", &self.0.config)
            .field("used_bytes", &self.used_bytes())
            .field("waiting", &self.waiting())
            .finish()
    }
}
