use std::{
    collections::{BTreeMap, HashMap},
    task::Waker,
};

/// The room of a budget: who has how much of it, and who waits for it.
///
/// # Invariants
///
/// 1. `used` is at most `max`. It is the sum of the units that bodies have, and of `granted`.
/// 2. A client's share has the units that its bodies have, and those that they wait for.
/// 3. The first body in the queue does not fit.
#[derive(Debug)]
pub(super) struct Room {
    max: u64,
    used: u64,
    /// The maximum units of one client.
    max_share: u64,
    shares: HashMap<u64, u64>,
    /// The bodies that wait, in the order of their arrival.
    queue: BTreeMap<Ticket, Waiter>,
    /// Units that were granted to bodies which have not taken them yet.
    granted: HashMap<Ticket, u64>,
    next: Ticket,
}

/// The number of a body that waits.
pub(super) type Ticket = u64;

#[derive(Debug)]
struct Waiter {
    units: u64,
    waker: Option<Waker>,
}

/// The state of a body that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Waits,
    /// It has so many units now.
    Granted(u64),
}

impl Room {
    pub(super) fn new(max: u64, max_share: u64) -> Self {
        Self {
            max,
            used: 0,
            max_share,
            shares: HashMap::new(),
            queue: BTreeMap::new(),
            granted: HashMap::new(),
            next: 0,
        }
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Takes units for a body that has been read in part. It does not queue.
    pub(super) fn grow(&mut self, key: Option<u64>, units: u64) -> bool {
        let fits = self.fits(units) && self.add_to_share(key, units);
        if fits {
            self.used += units;
        }
        fits
    }

    /// Takes the first units of a body, unless others wait for theirs.
    pub(super) fn start(&mut self, key: Option<u64>, units: u64) -> bool {
        self.queue.is_empty() && self.grow(key, units)
    }

    /// Lets a body wait, unless its client is over its share.
    pub(super) fn queue(&mut self, key: Option<u64>, units: u64) -> Option<Ticket> {
        if !self.add_to_share(key, units) {
            return None;
        }
        let ticket = self.next;
        self.next += 1;
        let waker = None;
        self.queue.insert(ticket, Waiter { units, waker });
        Some(ticket)
    }

    /// Returns whether it is the body's turn. Otherwise registers the waker.
    pub(super) fn turn(&mut self, ticket: Ticket, waker: &Waker) -> Turn {
        if let Some(units) = self.granted.remove(&ticket) {
            return Turn::Granted(units);
        }
        if let Some(waiter) = self.queue.get_mut(&ticket) {
            waiter.waker = Some(waker.clone());
        }
        Turn::Waits
    }

    /// Ends the wait of a body. Returns its waker, and those of the bodies whose turn it is now.
    pub(super) fn leave(&mut self, ticket: Ticket, key: Option<u64>) -> Vec<Waker> {
        if let Some(units) = self.granted.remove(&ticket) {
            return self.give_back(key, units);
        }
        let left = self.queue.remove(&ticket);
        if let Some(waiter) = &left {
            self.take_from_share(key, waiter.units);
        }
        let mut wakers = self.grant();
        // The body goes on without room, if it still exists.
        wakers.extend(left.and_then(|waiter| waiter.waker));
        wakers
    }

    /// Gives units back. Returns the wakers of the bodies whose turn it is now.
    pub(super) fn give_back(&mut self, key: Option<u64>, units: u64) -> Vec<Waker> {
        self.take_from_share(key, units);
        self.used -= units;
        self.grant()
    }

    fn grant(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some(first) = self.queue.first_entry() {
            if first.get().units > self.max - self.used {
                break;
            }
            let (ticket, waiter) = first.remove_entry();
            self.used += waiter.units;
            self.granted.insert(ticket, waiter.units);
            wakers.extend(waiter.waker);
        }
        wakers
    }

    fn fits(&self, units: u64) -> bool {
        units <= self.max - self.used
    }

    /// Adds to the share of a key. Returns whether there is room in it.
    fn add_to_share(&mut self, key: Option<u64>, units: u64) -> bool {
        let Some(key) = key else { return true };
        let used = self.shares.get(&key).copied().unwrap_or(0);
        let has_room = units <= self.max_share.saturating_sub(used);
        if has_room {
            self.shares.insert(key, used + units);
        }
        has_room
    }

    fn take_from_share(&mut self, key: Option<u64>, units: u64) {
        let Some(key) = key else { return };
        if let Some(used) = self.shares.get_mut(&key) {
            *used -= units;
            if *used == 0 {
                self.shares.remove(&key);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        assert!(self.used <= self.max);
        let first = self.queue.first_key_value();
        assert!(first.is_none_or(|(_, first)| !self.fits(first.units)));
        assert!(self.shares.values().all(|used| *used <= self.max_share));
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0 && self.shares.is_empty() && self.queue.is_empty() && self.granted.is_empty()
    }
}
