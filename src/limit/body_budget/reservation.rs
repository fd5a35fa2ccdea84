use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use super::{
    NoRoom, STEP,
    nesting::{self, Holding},
    room::{Ticket, Turn},
    shared::{BodyBudget, Client},
    units,
};

/// The room that one body has, or waits for.
pub(in crate::limit) struct Reservation {
    budget: BodyBudget,
    key: Option<u64>,
    /// How many units it may have, at most.
    max: u64,
    /// How many units it has; [`ENDED`] once it takes no more. It changes only while the room is
    /// locked.
    units: AtomicU64,
    /// `None` if it had its first units at once.
    ticket: Option<Ticket>,
}

/// More than any body has.
const ENDED: u64 = u64::MAX;

impl Reservation {
    /// Takes room for a body of this length, or of unknown length up to `limit`. Without room, it
    /// waits if that is allowed.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no room, and it does not wait.
    pub(in crate::limit) fn new(
        client: Client<'_>,
        length: Option<u64>,
        limit: u64,
        may_wait: bool,
    ) -> Result<Self, NoRoom> {
        let budget = client.budget;
        nesting::check(budget);
        let max = client.max_units().min(units(limit));
        let first = length.map_or(STEP, units).min(max);
        let mut room = budget.room();
        let mut reservation = Self {
            budget: budget.clone(),
            key: client.key,
            max,
            units: AtomicU64::new(0),
            ticket: None,
        };
        if room.start(client.key, first) {
            reservation.units = AtomicU64::new(first);
        } else {
            let ticket = may_wait.then(|| room.queue(client.key, first)).flatten();
            drop(room);
            reservation.ticket = Some(ticket.ok_or(NoRoom::Now)?);
        }
        Ok(reservation)
    }

    /// Marks the thread as running this body's request.
    pub(in crate::limit) fn hold(&self) -> Holding {
        Holding::new(&self.budget)
    }

    pub(in crate::limit) fn retry_after(&self) -> Duration {
        self.budget.retry_after()
    }

    /// Returns whether the body has to wait for its first units.
    pub(in crate::limit) fn waits(&self) -> bool {
        self.ticket.is_some()
    }

    /// Ready when the body has its first units, or needs none, because the service has responded.
    pub(in crate::limit) fn poll_wait(&self, cx: &Context<'_>) -> Poll<()> {
        let mut room = self.budget.room();
        // A body that has units, or has ended, does not wait.
        let has = self.units.load(Ordering::Relaxed);
        let Some(ticket) = self.ticket.filter(|_| has == 0) else {
            return Poll::Ready(());
        };
        match room.turn(ticket, cx.waker()) {
            Turn::Waits => Poll::Pending,
            Turn::Granted(units) => {
                self.units.store(units, Ordering::Relaxed);
                Poll::Ready(())
            }
        }
    }

    /// Takes the units that a body of so many bytes needs and does not have yet.
    pub(in crate::limit) fn grow_to(&self, bytes: u64) -> Result<(), NoRoom> {
        let needs = units(bytes);
        // This may be outdated if the service responds at this time, and is checked again.
        if needs <= self.units.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut room = self.budget.room();
        let has = self.units.load(Ordering::Relaxed);
        if needs <= has {
            return Ok(());
        }
        if needs > self.max {
            return Err(NoRoom::Ever);
        }
        let exactly = needs - has;
        let step = exactly.max(STEP).min(self.max - has);
        let taken = [step, exactly]
            .into_iter()
            .find(|units| room.grow(self.key, *units));
        let taken = taken.ok_or(NoRoom::Now)?;
        self.units.store(has + taken, Ordering::Relaxed);
        Ok(())
    }

    /// Gives everything back, and takes no more. A body that waits goes on without room.
    pub(in crate::limit) fn end(&self) {
        if self.units.load(Ordering::Relaxed) == ENDED {
            return;
        }
        let mut room = self.budget.room();
        let has = self.units.swap(ENDED, Ordering::Relaxed);
        let wakers = match (has, self.ticket) {
            (ENDED, _) => return,
            (0, Some(ticket)) => room.leave(ticket, self.key),
            (units, _) => room.give_back(self.key, units),
        };
        drop(room);
        for waker in wakers {
            waker.wake();
        }
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http::request::Parts;
    use proptest::prelude::*;

    use super::{
        super::{UNIT, config::BodyBudgetConfig},
        *,
    };

    const MAX: u64 = 300 * UNIT;
    const SHARE: u64 = 200 * UNIT;

    /// A step in the life of one of a few bodies.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Begin {
            length: Option<u64>,
            client: u8,
            may_wait: bool,
        },
        Poll,
        GrowTo(u64),
        End,
        Drop,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (proptest::option::of(0..MAX), 0..3_u8, any::<bool>()).prop_map(
                |(length, client, may_wait)| Step::Begin {
                    length,
                    client,
                    may_wait
                }
            ),
            Just(Step::Poll),
            (0..2 * MAX).prop_map(Step::GrowTo),
            Just(Step::End),
            Just(Step::Drop),
        ]
    }

    fn begin(
        budget: &BodyBudget,
        length: Option<u64>,
        client: u8,
        may_wait: bool,
    ) -> Option<Reservation> {
        let request = http::Request::builder().header("client", u16::from(client));
        let head = request.body(()).unwrap().into_parts().0;
        Reservation::new(budget.client(&head), length, MAX, may_wait).ok()
    }

    fn has(reservation: &Reservation) -> u64 {
        match reservation.units.load(Ordering::Relaxed) {
            ENDED => 0,
            units => units,
        }
    }

    fn poll(reservation: &Reservation) -> Poll<()> {
        reservation.poll_wait(&Context::from_waker(Waker::noop()))
    }

    proptest! {
        /// After each step the room is consistent, and it counts no less than the bodies have. A
        /// body that has been read in part never waits, and nothing is left at the end.
        #[test]
        fn budget_counts_what_bodies_have(
            steps in prop::collection::vec((0..6_usize, step()), 0..80),
        ) {
            let by_client = |head: &Parts| head.headers.get("client").cloned();
            let config = BodyBudgetConfig::new(MAX).max_share(SHARE, by_client);
            let budget = BodyBudget::new(config);
            let mut bodies = [const { None::<Reservation> }; 6];
            for (at, step) in steps {
                match (step, &bodies[at]) {
                    (Step::Begin { length, client, may_wait }, _) => {
                        // As in the layer, a body without room is refused.
                        bodies[at] = begin(&budget, length, client, may_wait);
                    }
                    (Step::Poll, Some(body)) => {
                        let waits = poll(body).is_pending();
                        prop_assert!(!waits || has(body) == 0);
                    }
                    // The layer reads only after the wait.
                    (Step::GrowTo(bytes), Some(body)) if poll(body).is_ready() => {
                        let before = has(body);
                        match body.grow_to(bytes) {
                            Ok(()) => prop_assert!(has(body) * UNIT >= bytes || has(body) == 0),
                            Err(_) => prop_assert_eq!(has(body), before),
                        }
                    }
                    (Step::End, Some(body)) => body.end(),
                    (Step::Drop, _) => bodies[at] = None,
                    (Step::Poll | Step::GrowTo(_) | Step::End, _) => {}
                }
                let held: u64 = bodies.iter().flatten().map(has).sum();
                prop_assert!(budget.used_bytes() >= held * UNIT);
                budget.room().assert_consistent();
            }
            // Each body that waits has its turn once the others have ended.
            while budget.waiting() > 0 {
                let ready = bodies.iter_mut().find(|body| {
                    body.as_ref().is_some_and(|body| poll(body).is_ready())
                });
                *ready.expect("one of them is not blocked") = None;
            }
            drop(bodies);
            prop_assert!(budget.room().is_empty());
        }
    }
}
