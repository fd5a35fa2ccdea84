//! Who holds a slot, and who is evicted.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError},
    time::Instant,
};

use super::{
    group::Group,
    peer::Peer,
    standing::{Rank, Shared, Standing, dormant_below},
    sync::{AtomicUsize, Mutex, MutexGuard, Ordering},
};

/// The holders of slots, by what ends each.
///
/// # Who is evicted
///
/// When all slots are taken, a newcomer evicts
/// 1. the holder with the lowest rate, if that is dormant: whoever's it is, nothing is lost,
/// 2. otherwise, of the peer with the most slots, the holder with the lowest rate. Of peers
///    with equally many, the one whose slowest holder is slower.
///
/// While more than half of the slots are taken, a newcomer evicts a holder by the first rule
/// alone.
///
/// # Invariants
///
/// 1. There are at most `most` holders.
/// 2. A holder that was evicted, or was there at the end, has to end. The caller that takes
///    it out gets what ends it, or else the caller that puts that in gets it back.
/// 3. Nothing is ended under the lock, for the drop of a holder takes it.
/// 4. The index holds each holder once, at its `placed` rank. That is never above its rank
///    now, but for a newcomer's while the newcomer makes room.
/// 5. A group changes under the lock. It counts its holders, and those of them that were
///    evicted until they leave.
#[derive(Debug)]
pub(crate) struct Registry<T> {
    most: usize,
    /// What ranks count from.
    epoch: Instant,
    state: Mutex<State<T>>,
    /// As in the state, to be read without its lock.
    running: AtomicUsize,
}

#[derive(Debug)]
struct State<T> {
    next: u64,
    holders: HashMap<u64, Holder<T>>,
    /// Holders that were evicted and have not left yet.
    leaving: usize,
    /// Made for the first eviction, so that a registry with room does not pay for it.
    index: Option<Index>,
}

#[derive(Debug)]
struct Holder<T> {
    /// What ends it; `None` until it is known.
    task: Option<T>,
    group: Arc<Group>,
    peer: Peer,
    placed: Rank,
    shared: Arc<Shared>,
}

/// A slot that was taken.
pub(crate) struct Entered<T> {
    pub(crate) number: u64,
    pub(crate) standing: Standing,
    /// What ends the holder that was evicted for it, as far as that is known.
    pub(crate) evicted: Option<T>,
}

/// A rank that has grown by less, in microseconds, is not worth a new place in the index.
const STALE: Rank = 250_000;

impl<T: Clone> Registry<T> {
    pub(crate) fn new(most: usize) -> Self {
        let state = State {
            next: 0,
            holders: HashMap::new(),
            leaving: 0,
            index: None,
        };
        Self {
            most,
            epoch: Instant::now(),
            state: Mutex::new(state),
            running: AtomicUsize::new(0),
        }
    }

    /// Takes a slot for a newcomer to a group. Returns `None` if there are no slots at all, or
    /// the group has ended.
    pub(crate) fn enter(&self, now: Instant, peer: Peer, group: &Arc<Group>) -> Option<Entered<T>> {
        if self.most == 0 {
            return None;
        }
        let standing = Standing::new(self.epoch, now);
        let mut state = self.state();
        if group.is_over() {
            return None;
        }
        group.enter();
        let before = state.holders.len();
        let is_full = before >= self.most;
        let number = state.next;
        state.next += 1;
        let rank = standing.shared().rank();
        let holder = Holder {
            task: None,
            group: Arc::clone(group),
            peer,
            // While it makes room it is none of the worst, but counts for its peer.
            placed: if is_full { Rank::MAX } else { rank },
            shared: Arc::clone(standing.shared()),
        };
        state.insert(number, holder);
        let dormant = dormant_below(self.epoch, now);
        let evicted = if is_full {
            let worst = state.worst(dormant);
            let evicted = worst.and_then(|worst| state.evict(worst));
            state.replace(number, rank);
            evicted
        } else if before > self.most / 2 {
            let dormant = state.dormant(dormant);
            dormant.and_then(|dormant| state.evict(dormant))
        } else {
            None
        };
        self.count(&state);
        Some(Entered {
            number,
            standing,
            evicted: evicted.flatten(),
        })
    }

    /// Takes note of what ends a holder.
    ///
    /// # Errors
    ///
    /// It has to end: it was evicted meanwhile, or its group has ended.
    pub(crate) fn started(&self, number: u64, task: T) -> Result<(), T> {
        let mut state = self.state();
        match state.holders.get_mut(&number) {
            Some(holder) if !holder.group.is_over() => {
                holder.task = Some(task);
                Ok(())
            }
            _ => Err(task),
        }
    }

    /// Gives a slot back.
    pub(crate) fn leave(&self, number: u64, group: &Group) {
        let mut state = self.state();
        if state.remove(number).is_none() {
            state.leaving -= 1;
        }
        group.leave();
        self.count(&state);
    }

    /// Evicts the holder that is the first to go. Returns `None` if there is no holder, and
    /// otherwise what ends it, as far as that is known.
    pub(crate) fn evict(&self, now: Instant) -> Option<Option<T>> {
        let mut state = self.state();
        let worst = state.worst(dormant_below(self.epoch, now))?;
        let evicted = state.evict(worst);
        self.count(&state);
        evicted
    }

    /// Has all holders of a group end, and those still to come. Returns what ends them, as far
    /// as it is known.
    pub(crate) fn end(&self, group: &Group) -> Vec<T> {
        let state = self.state();
        group.end();
        let holders = state.holders.values();
        let holders = holders.filter(|holder| holder.group.is_over());
        holders.filter_map(|holder| holder.task.clone()).collect()
    }

    /// Whether somebody that was evicted has not left yet.
    #[cfg(any(feature = "axum", bodyguard_loom))]
    pub(crate) fn is_evicting(&self) -> bool {
        self.state().leaving > 0
    }

    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// How many slots are taken.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Under the state's lock, so that the latest count stays.
    fn count(&self, state: &State<T>) {
        self.running.store(state.holders.len(), Ordering::Relaxed);
    }

    /// A panic elsewhere leaves nothing half-done behind this lock, and tasks are
    /// dropped while unwinding.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn insert(&mut self, number: u64, holder: Holder<T>) {
        if let Some(index) = &mut self.index {
            index.insert(holder.place(number));
        }
        self.holders.insert(number, holder);
    }

    fn remove(&mut self, number: u64) -> Option<Holder<T>> {
        let holder = self.holders.remove(&number)?;
        if let Some(index) = &mut self.index {
            index.remove(holder.place(number));
            // It pays for itself again if it is needed again.
            if self.holders.len() < index.worth {
                self.index = None;
            }
        }
        Some(holder)
    }

    /// Returns what ends it, as far as that is known.
    fn evict(&mut self, number: u64) -> Option<Option<T>> {
        let holder = self.remove(number)?;
        holder.shared.evict();
        self.leaving += 1;
        Some(holder.task)
    }

    /// Puts a holder at another place in the index.
    fn replace(&mut self, number: u64, placed: Rank) {
        let Some(holder) = self.holders.get_mut(&number) else {
            return;
        };
        let before = holder.place(number);
        holder.placed = placed;
        if let Some(index) = &mut self.index {
            index.remove(before);
            index.insert(holder.place(number));
        }
    }

    /// Returns the first to be evicted.
    fn worst(&mut self, dormant_below: Rank) -> Option<u64> {
        let dormant = self.dormant(dormant_below);
        dormant.or_else(|| Some(self.first(Index::slowest_of_largest)?.number))
    }

    /// Returns the holder with the lowest rate, if that is dormant.
    fn dormant(&mut self, dormant_below: Rank) -> Option<u64> {
        let slowest = self.first(Index::slowest)?;
        (slowest.rank < dormant_below).then_some(slowest.number)
    }

    /// Returns the holder that the index has first. If its rank has grown since it was
    /// placed, it gets a new place, and the next one is looked at. A holder gets a new place
    /// at most once per [`STALE`] of its growth.
    fn first(&mut self, first: fn(&Index) -> Option<Place>) -> Option<Place> {
        loop {
            let holders = &self.holders;
            let index = self.index.get_or_insert_with(|| Index::new(holders));
            let place = first(index)?;
            let rank = holders.get(&place.number)?.shared.rank();
            if rank <= place.rank.saturating_add(STALE) {
                return Some(place);
            }
            self.replace(place.number, rank);
        }
    }
}

impl<T> Holder<T> {
    fn place(&self, number: u64) -> Place {
        Place {
            peer: self.peer,
            rank: self.placed,
            number,
        }
    }
}

/// Holders in the order of their eviction.
#[derive(Debug)]
struct Index {
    places: BTreeSet<Place>,
    shares: HashMap<Peer, Share>,
    by_slots: BTreeSet<(usize, Reverse<Rank>, Peer)>,
    by_rank: BTreeSet<(Rank, Peer)>,
    /// With fewer holders than this it is not worth keeping.
    worth: usize,
}

/// By peer first, so that a peer's slowest holder is the first of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    peer: Peer,
    rank: Rank,
    number: u64,
}

/// What a peer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    slots: usize,
    /// The rank of its slowest holder.
    lowest: Rank,
}

impl Index {
    fn new<T>(holders: &HashMap<u64, Holder<T>>) -> Self {
        let mut index = Self {
            places: BTreeSet::new(),
            shares: HashMap::new(),
            by_slots: BTreeSet::new(),
            by_rank: BTreeSet::new(),
            worth: holders.len() / 4,
        };
        for (number, holder) in holders {
            index.insert(holder.place(*number));
        }
        index
    }

    fn insert(&mut self, place: Place) {
        self.places.insert(place);
        self.update(place.peer, 1, 0);
    }

    fn remove(&mut self, place: Place) {
        self.places.remove(&place);
        self.update(place.peer, 0, 1);
    }

    /// After one of a peer's places has come or gone.
    fn update(&mut self, peer: Peer, came: usize, went: usize) {
        let before = self.shares.get(&peer).copied();
        let slots = before.map_or(0, |share| share.slots) + came - went;
        let now = self.slowest_of(peer).map(|slowest| Share {
            slots,
            lowest: slowest.rank,
        });
        if let Some(Share { slots, lowest }) = before {
            self.by_slots.remove(&(slots, Reverse(lowest), peer));
            self.by_rank.remove(&(lowest, peer));
        }
        match now {
            Some(share @ Share { slots, lowest }) => {
                self.by_slots.insert((slots, Reverse(lowest), peer));
                self.by_rank.insert((lowest, peer));
                self.shares.insert(peer, share);
            }
            None => {
                self.shares.remove(&peer);
            }
        }
    }

    fn slowest_of(&self, peer: Peer) -> Option<Place> {
        let first = Place {
            peer,
            rank: 0,
            number: 0,
        };
        let place = self.places.range(first..).next();
        place.filter(|place| place.peer == peer).copied()
    }

    /// Returns the holder with the lowest rank.
    fn slowest(&self) -> Option<Place> {
        let (_, peer) = self.by_rank.first()?;
        self.slowest_of(*peer)
    }

    /// Returns the holder with the lowest rank of the peer with the most slots.
    fn slowest_of_largest(&self) -> Option<Place> {
        let (_, _, peer) = self.by_slots.last()?;
        self.slowest_of(*peer)
    }
}
