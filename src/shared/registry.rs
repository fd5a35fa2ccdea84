//! Slots, and the order in which their holders are evicted.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError},
    time::Instant,
};

use super::{
    group::Group,
    peer::PeerId,
    standing::{Rank, SharedStanding, SlotRank, Standing, dormant_below, per_slot},
    sync::{AtomicUsize, Mutex, MutexGuard, Ordering},
};

/// The holders of slots, each with the handle that ends it.
///
/// # Eviction
///
/// The first candidate for eviction is
/// 1. the slowest holder of a peer that has more than half of the slots that are taken. So by
///    sending more, one peer can take at most half of the slots from the others.
/// 2. otherwise the holder with the lowest *rate per slot*: its rate, divided by the number of
///    slots that its peer has. Among the holders of one peer, that is the slowest. Rates count up
///    to a limit, so that few peers do not keep many slots by sending faster in each.
///
/// - When all slots are taken, a newcomer evicts that holder.
/// - While more than half of the slots are taken, a newcomer evicts that holder if it is dormant.
///
/// The newcomer counts for its peer, but is not evicted itself.
///
/// # Invariants
///
/// 1. There are at most `most` holders.
/// 2. A holder that was evicted has to end, and so has a holder of a group that has ended. Its
///    handle is either stored already, and then the caller that removes the holder gets the handle.
///    Or it is stored later, and then the caller that stores it gets the handle back.
/// 3. No holder is ended under the lock, because the drop of a holder takes the lock.
/// 4. The index holds each holder once, at its `placed` rank. That rank is never above the holder's
///    current rank, except for a newcomer while it makes room.
/// 5. A group changes under the lock. It counts its holders, including those that were evicted and
///    have not left yet.
#[derive(Debug)]
pub(crate) struct Registry<T> {
    most: usize,
    /// The time from which ranks count.
    epoch: Instant,
    state: Mutex<RegistryState<T>>,
    /// The number of holders, to be read without the lock.
    running: AtomicUsize,
}

#[derive(Debug)]
struct RegistryState<T> {
    next: u64,
    holders: HashMap<u64, Holder<T>>,
    /// Holders that were evicted and have not left yet.
    leaving: usize,
    /// Created for the first eviction, so that a registry with free slots does not pay for it.
    index: Option<Index>,
}

#[derive(Debug)]
struct Holder<T> {
    /// The handle that ends the holder; `None` until it is known.
    task: Option<T>,
    group: Arc<Group>,
    peer: PeerId,
    placed: Rank,
    shared: Arc<SharedStanding>,
}

/// A slot that was taken.
pub(crate) struct Entered<T> {
    pub(crate) number: u64,
    pub(crate) standing: Standing,
    /// The handle of the holder that was evicted for this slot, if it is known.
    pub(crate) evicted: Option<T>,
}

/// If a rank has grown by less than this, in microseconds, its position in the index stays.
const STALE: Rank = 50_000;

impl<T: Clone> Registry<T> {
    pub(crate) fn new(most: usize) -> Self {
        let state = RegistryState {
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

    /// Takes a slot for a newcomer to a group, whose client has sent `sent` bytes by now. Returns
    /// `None` if there are no slots at all, or if the group has ended.
    pub(crate) fn enter(
        &self,
        now: Instant,
        peer: PeerId,
        sent: u64,
        group: &Arc<Group>,
    ) -> Option<Entered<T>> {
        if self.most == 0 {
            return None;
        }
        let standing = Standing::new(self.epoch, now, sent);
        let mut state = self.state();
        if group.is_over() {
            return None;
        }
        group.enter();
        let before = state.holders.len();
        let is_full = before >= self.most;
        let makes_room = before > self.most / 2;
        let number = state.next;
        state.next += 1;
        let rank = standing.shared().rank();
        let holder = Holder {
            task: None,
            group: Arc::clone(group),
            peer,
            // While the newcomer makes room, it must not be evicted, but counts for its peer.
            placed: if makes_room { Rank::MAX } else { rank },
            shared: Arc::clone(standing.shared()),
        };
        state.insert(number, holder);
        let evicted = if makes_room {
            let dormant_below = dormant_below(self.epoch, now);
            let worst = state.worst();
            let worst = worst.filter(|worst| is_full || worst.rank < dormant_below);
            let evicted = worst.and_then(|worst| state.evict(worst.number));
            state.replace(number, rank);
            evicted
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

    /// Stores the handle that ends a holder.
    ///
    /// # Errors
    ///
    /// Returns the handle if the holder has to end: it was evicted meanwhile, or its group has
    /// ended.
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

    /// Releases a slot.
    pub(crate) fn leave(&self, number: u64, group: &Group) {
        let mut state = self.state();
        if state.remove(number).is_none() {
            state.leaving -= 1;
        }
        group.leave();
        self.count(&state);
    }

    /// Evicts the first candidate. Returns `None` if there is no holder, and otherwise the handle
    /// that ends the holder, if it is known.
    pub(crate) fn evict(&self) -> Option<Option<T>> {
        let mut state = self.state();
        let worst = state.worst()?;
        let evicted = state.evict(worst.number);
        self.count(&state);
        evicted
    }

    /// Ends a group. Returns the known handles of its holders. No holder can begin after that.
    pub(crate) fn end(&self, group: &Group) -> Vec<T> {
        let state = self.state();
        group.end();
        let holders = state.holders.values();
        let holders = holders.filter(|holder| holder.group.is_over());
        holders.filter_map(|holder| holder.task.clone()).collect()
    }

    /// Returns whether an evicted holder has not left yet.
    #[cfg(any(feature = "axum", bodyguard_loom))]
    pub(crate) fn is_evicting(&self) -> bool {
        self.state().leaving > 0
    }

    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Returns how many slots are taken.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Publishes the number of holders. Called under the lock, so that the latest count stays.
    fn count(&self, state: &RegistryState<T>) {
        self.running.store(state.holders.len(), Ordering::Relaxed);
    }

    /// Locks the state, and ignores poisoning. No panic leaves the state half-updated, and tasks
    /// are dropped while unwinding.
    fn state(&self) -> MutexGuard<'_, RegistryState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> RegistryState<T> {
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
            // It is created anew if it is needed again.
            if self.holders.len() < index.worth {
                self.index = None;
            }
        }
        Some(holder)
    }

    /// Evicts a holder. Returns the handle that ends it, if it is known.
    fn evict(&mut self, number: u64) -> Option<Option<T>> {
        let holder = self.remove(number)?;
        holder.shared.evict();
        self.leaving += 1;
        Some(holder.task)
    }

    /// Moves a holder to another position in the index.
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

    /// Returns the first candidate for eviction: the first holder in the index. If its rank has
    /// grown since it was placed, the holder gets a new position, and the next one is checked. A
    /// holder gets a new position at most once per [`STALE`] of its growth.
    fn worst(&mut self) -> Option<Position> {
        loop {
            let holders = &self.holders;
            let index = self.index.get_or_insert_with(|| Index::new(holders));
            let place = index.first()?;
            let rank = holders.get(&place.number)?.shared.rank();
            if rank <= place.rank.saturating_add(STALE) {
                return Some(place);
            }
            self.replace(place.number, rank);
        }
    }
}

impl<T> Holder<T> {
    fn place(&self, number: u64) -> Position {
        Position {
            peer: self.peer,
            rank: self.placed,
            number,
        }
    }
}

/// An index of holders in the order of their eviction.
#[derive(Debug)]
struct Index {
    places: BTreeSet<Position>,
    shares: HashMap<PeerId, Share>,
    /// Each peer once, ordered by its slowest holder.
    peers: BTreeSet<(SlotRank, PeerId)>,
    /// Each peer once, ordered by its number of slots.
    by_slots: BTreeSet<(usize, PeerId)>,
    /// With fewer holders than this, the index is not worth keeping.
    worth: usize,
}

/// The position of a holder in the index. Positions are ordered by peer first, so that a peer's
/// slowest holder is the first of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    peer: PeerId,
    rank: Rank,
    number: u64,
}

/// The slots of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    slots: usize,
    /// The rank per slot of its slowest holder.
    lowest: SlotRank,
}

impl Index {
    fn new<T>(holders: &HashMap<u64, Holder<T>>) -> Self {
        let mut index = Self {
            places: BTreeSet::new(),
            shares: HashMap::new(),
            peers: BTreeSet::new(),
            by_slots: BTreeSet::new(),
            worth: holders.len() / 4,
        };
        for (number, holder) in holders {
            index.insert(holder.place(*number));
        }
        index
    }

    fn insert(&mut self, place: Position) {
        self.places.insert(place);
        self.update(place.peer, 1, 0);
    }

    fn remove(&mut self, place: Position) {
        self.places.remove(&place);
        self.update(place.peer, 0, 1);
    }

    /// Updates a peer's share after one of its positions was added or removed.
    fn update(&mut self, peer: PeerId, came: usize, went: usize) {
        let before = self.shares.get(&peer).copied();
        let slots = before.map_or(0, |share| share.slots) + came - went;
        let now = self.slowest_of(peer).map(|slowest| Share {
            slots,
            lowest: per_slot(slowest.rank, slots),
        });
        if let Some(Share { slots, lowest }) = before {
            self.peers.remove(&(lowest, peer));
            self.by_slots.remove(&(slots, peer));
        }
        match now {
            Some(share) => {
                self.peers.insert((share.lowest, peer));
                self.by_slots.insert((share.slots, peer));
                self.shares.insert(peer, share);
            }
            None => {
                self.shares.remove(&peer);
            }
        }
    }

    fn slowest_of(&self, peer: PeerId) -> Option<Position> {
        let first = Position {
            peer,
            rank: 0,
            number: 0,
        };
        let place = self.places.range(first..).next();
        place.filter(|place| place.peer == peer).copied()
    }

    /// Returns the slowest holder of a peer that has more than half of the slots that are taken. If
    /// no peer has, returns the holder with the lowest rate per slot.
    fn first(&self) -> Option<Position> {
        let (slots, largest) = self.by_slots.last()?;
        let peer = match *slots > self.places.len() / 2 {
            true => largest,
            false => &self.peers.first()?.1,
        };
        self.slowest_of(*peer)
    }
}

#[cfg(all(test, not(bodyguard_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    const TICK: Duration = Duration::from_millis(100);
    const SLOTS: usize = 64;

    /// Connections that take slots of one registry, with a simulated clock.
    struct Crowd {
        registry: Registry<()>,
        group: Arc<Group>,
        now: Instant,
    }

    struct Connection {
        number: u64,
        standing: Standing,
    }

    impl Crowd {
        fn new(slots: usize) -> Self {
            Self {
                registry: Registry::new(slots),
                group: Arc::default(),
                now: Instant::now(),
            }
        }

        fn connect(&self, address: u64, sent: u64) -> Connection {
            let peer = PeerId::Keyed(address);
            let entered = self.registry.enter(self.now, peer, sent, &self.group);
            let Entered {
                number, standing, ..
            } = entered.expect("there are slots");
            Connection { number, standing }
        }

        fn connect_all(&self, count: usize, address: u64, sent: u64) -> Vec<Connection> {
            (0..count).map(|_| self.connect(address, sent)).collect()
        }

        fn send(&self, connections: &[Connection], bytes: u64) {
            for connection in connections {
                connection.standing.received(bytes, self.now);
            }
        }

        fn tick(&mut self) {
            self.now += TICK;
        }

        /// Removes the evicted connections. Returns how many remain.
        fn left(&self, connections: &mut Vec<Connection>) -> usize {
            connections.retain(|connection| {
                let is_evicted = connection.standing.is_evicted();
                if is_evicted {
                    self.registry.leave(connection.number, &self.group);
                }
                !is_evicted
            });
            connections.len()
        }
    }

    /// 80 addresses with a connection each at 1.5 kB/s, each made again when it is evicted; 10
    /// honest clients of one address at 200 kB/s.
    #[test]
    fn many_slow_addresses_leave_slots_to_fast_clients_of_one_address() {
        let mut crowd = Crowd::new(SLOTS);
        let mut attack: Vec<Vec<Connection>> = (0..80).map(|_| Vec::new()).collect();
        let mut honest = Vec::new();
        for tick in 0..140 {
            for (address, connections) in attack.iter_mut().enumerate() {
                if crowd.left(connections) == 0 {
                    connections.push(crowd.connect(100 + address as u64, 0));
                }
                crowd.send(connections, 150);
            }
            crowd.send(&honest, 20_000);
            if tick == 40 {
                honest = crowd.connect_all(10, 1, 20_000);
            }
            crowd.tick();
        }
        assert_eq!(crowd.left(&mut honest), 10);
    }

    /// 60 silent connections each second, of the address of 10 honest clients at 10 kB/s.
    #[test]
    fn silent_newcomers_leave_slots_to_sender_of_same_address() {
        let mut crowd = Crowd::new(SLOTS);
        let mut silent = Vec::new();
        let mut honest = Vec::new();
        for tick in 0..140 {
            silent.extend(crowd.connect_all(6, 1, 0));
            crowd.send(&honest, 1_000);
            if tick == 40 {
                honest = crowd.connect_all(10, 1, 1_000);
            }
            crowd.tick();
            crowd.left(&mut silent);
            crowd.left(&mut honest);
        }
        assert_eq!(honest.len(), 10);
    }

    /// One address at 100 kB/s in each connection, one new each second; honest clients of another
    /// address at 5 kB/s.
    #[test]
    fn many_fast_connections_leave_slots_to_slower_clients() {
        for (slots, clients) in [(SLOTS, 1), (SLOTS, 10), (1024, 10)] {
            let mut crowd = Crowd::new(slots);
            let mut attack = crowd.connect_all(slots, 2, 0);
            let mut honest = Vec::new();
            for tick in 0..140 {
                if tick % 10 == 0 {
                    attack.push(crowd.connect(2, 0));
                }
                crowd.send(&attack, 10_000);
                crowd.send(&honest, 500);
                if tick == 40 {
                    honest = crowd.connect_all(clients, 1, 500);
                }
                crowd.tick();
                crowd.left(&mut attack);
            }
            assert_eq!(crowd.left(&mut honest), clients, "of {slots} slots");
        }
    }

    /// 40 connections of one address at 1.5 kB/s, and one more each second; 10 honest clients of
    /// another address send 10 kB each 4.5 s.
    #[test]
    fn free_slots_keep_sender_with_pauses_beside_larger_peer() {
        let mut crowd = Crowd::new(SLOTS);
        let mut attack = crowd.connect_all(36, 2, 0);
        let mut honest = crowd.connect_all(10, 1, 0);
        for tick in 0..140 {
            if tick % 10 == 0 {
                attack.push(crowd.connect(2, 0));
            }
            crowd.send(&attack, 150);
            if tick % 45 == 0 {
                crowd.send(&honest, 10_000);
            }
            crowd.tick();
            crowd.left(&mut attack);
        }
        assert_eq!(crowd.left(&mut honest), 10);
    }
}
