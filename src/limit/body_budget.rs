use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    future::Future,
    hash::{BuildHasher, Hash, RandomState},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::request::Parts;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

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
/// A body that is longer than the whole budget is refused with 413.
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
///   body: [exempt](BodyBudgetConfig::exempt) it.
#[derive(Clone)]
pub struct BodyBudget(Arc<Inner>);

/// The settings of a [`BodyBudget`].
#[derive(Clone)]
pub struct BodyBudgetConfig {
    max_bytes: u64,
    wait_timeout: Option<Duration>,
    retry_after: Duration,
    share: Option<Share>,
    exempt: Option<Arc<Exempt>>,
}

#[derive(Clone)]
struct Share {
    max_units: u64,
    key: Arc<ShareKey>,
}

type ShareKey = dyn Fn(&Parts) -> Option<u64> + Send + Sync;
type Exempt = dyn Fn(&Parts) -> bool + Send + Sync;

struct Inner {
    config: BodyBudgetConfig,
    max_units: u64,
    room: Arc<Semaphore>,
    /// The units that each key has, if there are shares.
    by_key: Mutex<HashMap<u64, u64>>,
    waiting: AtomicUsize,
}

/// The bytes that one permit of the semaphore stands for.
const UNIT: u64 = 1024;

/// The units that a body of unknown length takes at a time: more than most frames have.
const STEP: u64 = 64;

/// A semaphore hands out so many permits at a time, at most.
const MAX_UNITS: u64 = u32::MAX as u64;

impl BodyBudgetConfig {
    /// Allows `max_bytes` for all bodies together. Requests are refused when there is no room.
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            wait_timeout: None,
            retry_after: Duration::from_secs(1),
            share: None,
            exempt: None,
        }
    }

    /// Lets the first read of a body wait so long for room; `None`, the default, refuses the
    /// request at once. While a body waits, nothing of it is read, and a client that sent
    /// `Expect: 100-continue` gets no 100.
    #[must_use]
    pub fn wait_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.wait_timeout = timeout.into();
        self
    }

    /// Sets the `Retry-After` of a refused request, in whole seconds. The default is 1 s.
    #[must_use]
    pub fn retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// Limits how much of the budget one client may have: requests with the same key have
    /// `max_bytes` together. A request over that is refused with 503 and does not wait; one
    /// without a key (`None`) has no such limit.
    ///
    /// ```
    /// use tower_bodyguard::{BodyBudgetConfig, MIB};
    ///
    /// let config = BodyBudgetConfig::new(512 * MIB)
    ///     .max_share(64 * MIB, |head| head.headers.get("authorization").cloned());
    /// ```
    #[must_use]
    pub fn max_share<F, K>(mut self, max_bytes: u64, key: F) -> Self
    where
        F: Fn(&Parts) -> Option<K> + Send + Sync + 'static,
        K: Hash,
    {
        let state = RandomState::new();
        self.share = Some(Share {
            max_units: units(max_bytes),
            key: Arc::new(move |head| Some(state.hash_one(key(head)?))),
        });
        self
    }

    /// Exempts requests from the budget, such as those whose handler streams its body.
    ///
    /// ```
    /// use tower_bodyguard::{BodyBudgetConfig, MIB};
    ///
    /// let config = BodyBudgetConfig::new(512 * MIB).exempt(|head| head.uri.path() == "/stream");
    /// ```
    #[must_use]
    pub fn exempt<F>(mut self, exempt: F) -> Self
    where
        F: Fn(&Parts) -> bool + Send + Sync + 'static,
    {
        self.exempt = Some(Arc::new(exempt));
        self
    }
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

    /// Returns the longest body that fits, in bytes.
    pub(super) fn longest(&self) -> u64 {
        self.0.max_units.min(MAX_UNITS) * UNIT
    }

    pub(super) fn is_exempt(&self, head: &Parts) -> bool {
        self.0
            .config
            .exempt
            .as_ref()
            .is_some_and(|exempt| exempt(head))
    }

    pub(super) fn retry_after(&self) -> Duration {
        self.0.config.retry_after
    }

    /// Begins a reservation for a body of this length, or of unknown length up to `limit`.
    pub(super) fn begin(&self, head: &Parts, length: Option<u64>, limit: u64) -> Reservation {
        let share = self.0.config.share.as_ref();
        Reservation {
            budget: self.clone(),
            key: share.and_then(|share| (share.key)(head)),
            first: length.map_or_else(|| STEP.min(units(limit)), |length| units(length.min(limit))),
            units: AtomicU64::new(0),
        }
    }

    fn by_key(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        // A count is changed in one step.
        self.0.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to the share of a key; `false` if there is no room in it.
    fn add_to_share(&self, key: Option<u64>, units: u64) -> bool {
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

    fn take_from_share(&self, key: Option<u64>, units: u64) {
        let Some(key) = key else { return };
        if let Entry::Occupied(mut used) = self.by_key().entry(key) {
            *used.get_mut() -= units;
            if *used.get() == 0 {
                used.remove();
            }
        }
    }

    fn give_back(&self, key: Option<u64>, units: u64) {
        if units > 0 {
            self.take_from_share(key, units);
            self.0.room.add_permits(units as usize);
        }
    }
}

/// Returns the units that so many bytes take.
fn units(bytes: u64) -> u64 {
    bytes.div_ceil(UNIT).max(1)
}

/// The room that one body has.
pub(super) struct Reservation {
    budget: BodyBudget,
    key: Option<u64>,
    /// How many units it begins with.
    first: u64,
    /// How many units it has; [`ENDED`] once it takes no more.
    units: AtomicU64,
}

/// More than any body has.
const ENDED: u64 = u64::MAX;

/// There is no room.
#[derive(Debug)]
pub(super) struct NoRoom;

impl Reservation {
    pub(super) fn retry_after(&self) -> Duration {
        self.budget.retry_after()
    }

    /// Takes the first units. Without room, returns a future for them if
    /// waiting is allowed.
    pub(super) fn start(&self) -> Result<Option<Waiting>, NoRoom> {
        match self.take(self.first) {
            Ok(()) => Ok(None),
            Err(NoRoom) => self.wait().map(Some),
        }
    }

    /// Takes the units that a body of so many bytes needs and does not have yet.
    pub(super) fn grow_to(&self, bytes: u64) -> Result<(), NoRoom> {
        let has = self.units.load(Ordering::Acquire);
        let needs = units(bytes);
        if has == ENDED || needs <= has {
            return Ok(());
        }
        let exactly = needs - has;
        self.take(exactly.max(STEP))
            .or_else(|NoRoom| self.take(exactly))
    }

    /// Gives everything back, and takes no more.
    pub(super) fn end(&self) {
        match self.units.swap(ENDED, Ordering::AcqRel) {
            ENDED => {}
            units => self.budget.give_back(self.key, units),
        }
    }

    fn take(&self, units: u64) -> Result<(), NoRoom> {
        let permits = u32::try_from(units).map_err(|_| NoRoom)?;
        if !self.budget.add_to_share(self.key, units) {
            return Err(NoRoom);
        }
        match self.budget.0.room.try_acquire_many(permits) {
            Ok(permit) => {
                permit.forget();
                self.keep(units);
                Ok(())
            }
            Err(_) => {
                self.budget.take_from_share(self.key, units);
                Err(NoRoom)
            }
        }
    }

    /// Adds units that have been taken. They go back if the reservation has ended.
    fn keep(&self, units: u64) {
        let added = self
            .units
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |has| {
                (has != ENDED).then(|| has + units)
            });
        if added.is_err() {
            self.budget.give_back(self.key, units);
        }
    }

    fn wait(&self) -> Result<Waiting, NoRoom> {
        let wait_timeout = self.budget.0.config.wait_timeout.ok_or(NoRoom)?;
        let permits = u32::try_from(self.first).map_err(|_| NoRoom)?;
        // Waiting would not help a client that is over its share.
        if !self.budget.add_to_share(self.key, self.first) {
            return Err(NoRoom);
        }
        self.budget.take_from_share(self.key, self.first);
        Ok(Waiting {
            permits,
            wait_timeout,
            acquiring: None,
            counted: None,
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("units", &self.units)
            .finish_non_exhaustive()
    }
}

type Acquiring = dyn Future<Output = Option<OwnedSemaphorePermit>> + Send + Sync;

/// A body that waits for its room, from its first poll on.
pub(super) struct Waiting {
    permits: u32,
    wait_timeout: Duration,
    acquiring: Option<Pin<Box<Acquiring>>>,
    counted: Option<Counted>,
}

impl Waiting {
    /// Ready when the reservation has its room, or when the time is over.
    pub(super) fn poll(
        &mut self,
        reservation: &Reservation,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), NoRoom>> {
        let budget = &reservation.budget;
        let acquiring = self.acquiring.get_or_insert_with(|| {
            self.counted = Some(Counted::new(budget));
            let room = Arc::clone(&budget.0.room);
            let acquire = timeout(self.wait_timeout, room.acquire_many_owned(self.permits));
            // The semaphore is never closed.
            Box::pin(async move { acquire.await.ok()?.ok() })
        });
        acquiring.as_mut().poll(cx).map(|permit| {
            self.counted = None;
            let permit = permit.ok_or(NoRoom)?;
            let units = u64::from(self.permits);
            if !budget.add_to_share(reservation.key, units) {
                return Err(NoRoom);
            }
            permit.forget();
            reservation.keep(units);
            Ok(())
        })
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("permits", &self.permits)
            .finish_non_exhaustive()
    }
}

/// One of those that [`BodyBudget::waiting`] counts.
struct Counted(BodyBudget);

impl Counted {
    fn new(budget: &BodyBudget) -> Self {
        budget.0.waiting.fetch_add(1, Ordering::Relaxed);
        Self(budget.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Ordering::Relaxed);
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

impl fmt::Debug for BodyBudgetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyBudgetConfig")
            .field("max_bytes", &self.max_bytes)
            .field("wait_timeout", &self.wait_timeout)
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: u64 = 300 * UNIT;
    const SHARE: u64 = 200 * UNIT;

    /// A step in the life of one of a few bodies.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Begin { length: Option<u64>, client: u8 },
        GrowTo(u64),
        End,
        Drop,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (proptest::option::of(0..MAX), 0..3_u8)
                .prop_map(|(length, client)| Step::Begin { length, client }),
            (0..2 * MAX).prop_map(Step::GrowTo),
            Just(Step::End),
            Just(Step::Drop),
        ]
    }

    fn begin(budget: &BodyBudget, length: Option<u64>, client: u8) -> Reservation {
        let request = http::Request::builder().header("client", u16::from(client));
        let head = request.body(()).unwrap().into_parts().0;
        budget.begin(&head, length, MAX)
    }

    fn has(reservation: &Reservation) -> u64 {
        match reservation.units.load(Ordering::Relaxed) {
            ENDED => 0,
            units => units,
        }
    }

    proptest! {
        /// After each step, the budget counts exactly the units that the bodies have. Nothing is
        /// left at the end.
        #[test]
        fn budget_counts_what_bodies_have(steps in prop::collection::vec((0..4_usize, step()), 0..60)) {
            let by_client = |head: &Parts| head.headers.get("client").cloned();
            let config = BodyBudgetConfig::new(MAX).max_share(SHARE, by_client);
            let budget = BodyBudget::new(config);
            let mut bodies = [const { None::<(u8, Reservation)> }; 4];
            for (at, step) in steps {
                match (step, &bodies[at]) {
                    (Step::Begin { length, client }, _) => {
                        // As in the layer, a body without room is refused.
                        let body = begin(&budget, length, client);
                        bodies[at] = body.start().is_ok().then_some((client, body));
                    }
                    (Step::GrowTo(bytes), Some((_, body))) => {
                        let before = has(body);
                        match body.grow_to(bytes) {
                            Ok(()) => prop_assert!(has(body) * UNIT >= bytes || has(body) == 0),
                            Err(NoRoom) => prop_assert_eq!(has(body), before),
                        }
                    }
                    (Step::End, Some((_, body))) => body.end(),
                    (Step::Drop, _) => bodies[at] = None,
                    (Step::GrowTo(_) | Step::End, None) => {}
                }
                let held: u64 = bodies.iter().flatten().map(|(_, body)| has(body)).sum();
                prop_assert_eq!(budget.used_bytes(), held * UNIT);
                prop_assert!(held * UNIT <= MAX);
                for client in 0..3 {
                    let of_client = bodies.iter().flatten().filter(|(of, _)| *of == client);
                    let held: u64 = of_client.map(|(_, body)| has(body)).sum();
                    prop_assert!(held * UNIT <= SHARE);
                }
            }
            drop(bodies);
            prop_assert_eq!(budget.used_bytes(), 0);
            prop_assert!(budget.by_key().is_empty());
        }
    }
}
