use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::request::Parts;

use super::{UNIT, config::BodyBudgetConfig, room::Room, units};

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
/// [`wait_timeout`](BodyBudgetConfig::wait_timeout), a body over HTTP/1 waits for room before it is
/// read. A body that has been read in part never waits, so that bodies cannot block each other: it
/// gets the room that is free, even if other bodies wait for more, or is refused.
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
/// - **Nested layers must not have the same budget.** A body would reserve its room in each of them,
///   and wait for itself. The first such request is logged.
/// - Room is counted in units of 1 KiB, and a body takes at least one. Of an HTTP/2 body, hyper may
///   hold another flow-control window (1 MiB by default) that the handler has not read yet.
/// - When a service responds, the room of its request is free, even if another task still reads the
///   body.
/// - A service that streams its body to a disk or to another server holds a chunk, and not the
///   body: exempt it with [`Limit::without_budget`](crate::Limit::without_budget). A body with
///   [no limit](crate::Limit::unlimited) that is not exempt may become as long as the budget.
#[derive(Clone)]
pub struct BodyBudget(Arc<Inner>);

struct Inner {
    config: BodyBudgetConfig,
    max_units: u64,
    room: Mutex<Room>,
    /// Whether nested layers with this budget were reported.
    has_reported: AtomicBool,
}

impl BodyBudget {
    /// Makes a budget with these settings.
    #[must_use]
    pub fn new(config: BodyBudgetConfig) -> Self {
        let max_units = units(config.max_bytes);
        let max_share = config.share.as_ref();
        let max_share = max_share.map_or(max_units, |share| share.max_units);
        Self(Arc::new(Inner {
            config,
            max_units,
            room: Mutex::new(Room::new(max_units, max_share)),
            has_reported: AtomicBool::new(false),
        }))
    }

    /// Makes a budget of so many bytes, with the defaults of [`BodyBudgetConfig`].
    ///
    /// # Panics
    ///
    /// Panics if `max_bytes` is 0.
    #[must_use]
    #[track_caller]
    pub fn max_bytes(max_bytes: u64) -> Self {
        Self::new(BodyBudgetConfig::new(max_bytes))
    }

    /// Returns how many bytes are reserved now, in steps of 1 KiB.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.room().used() * UNIT
    }

    /// Returns how many bodies wait for room now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.room().waiting()
    }

    /// Records the budget with the `metrics` facade (feature `metrics`): the gauges
    /// `bodyguard_budget_max_bytes`, `bodyguard_budget_used_bytes` and
    /// `bodyguard_budget_waiting` (bodies). The label `budget` has the name.
    ///
    /// Call this before the metrics are read: in the handler of `/metrics`, or every few seconds if
    /// the recorder serves them by itself.
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

    /// Locks the room. A panic elsewhere leaves nothing half-done behind this lock.
    pub(super) fn room(&self) -> MutexGuard<'_, Room> {
        self.0.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an address that no other budget has.
    pub(super) fn address(&self) -> *const () {
        Arc::as_ptr(&self.0).cast()
    }

    /// Returns whether this is the first time that nested layers were seen.
    pub(super) fn is_first_nesting(&self) -> bool {
        !self.0.has_reported.swap(true, Ordering::Relaxed)
    }

    /// Returns for how long a body waits for room, if it waits at all.
    pub(in crate::limit) fn wait_timeout(&self) -> Option<Duration> {
        self.0.config.wait_timeout
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
        self.max_units().saturating_mul(UNIT)
    }

    /// Returns the units that one body can have.
    pub(super) fn max_units(self) -> u64 {
        let inner = &self.budget.0;
        let share = inner.config.share.as_ref().filter(|_| self.key.is_some());
        let share = share.map_or(u64::MAX, |share| share.max_units);
        inner.max_units.min(share)
    }

    pub(in crate::limit) fn budget(&self) -> &BodyBudget {
        self.budget
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
