use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{
    NoRoom, STEP,
    shared::{BodyBudget, Client},
    units,
    waiting::Waiting,
};

/// The room that one body has.
pub(in crate::limit) struct Reservation {
    budget: BodyBudget,
    key: Option<u64>,
    /// How many units it begins with.
    first: u64,
    /// How many units it has; [`ENDED`] once it takes no more.
    units: AtomicU64,
}

/// More than any body has.
const ENDED: u64 = u64::MAX;

impl Reservation {
    /// Begins a reservation for a body of this length, or of unknown length up to `limit`.
    pub(in crate::limit) fn new(client: Client<'_>, length: Option<u64>, limit: u64) -> Self {
        Self {
            budget: client.budget.clone(),
            key: client.key,
            first: length.map_or_else(|| STEP.min(units(limit)), |length| units(length.min(limit))),
            units: AtomicU64::new(0),
        }
    }

    pub(in crate::limit) fn retry_after(&self) -> Duration {
        self.budget.retry_after()
    }

    /// Takes the first units. Without room, returns a future for them if
    /// waiting is allowed.
    pub(in crate::limit) fn start(&self) -> Result<Option<Waiting>, NoRoom> {
        match self.take(self.first) {
            Ok(()) => Ok(None),
            Err(NoRoom) => self.wait().map(Some),
        }
    }

    /// Waits for the first units. Ready when it has them, or when the time is over.
    pub(in crate::limit) fn poll_wait(
        &self,
        waiting: &mut Waiting,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), NoRoom>> {
        let permit = ready!(waiting.poll(&self.budget, cx)).ok_or(NoRoom)?;
        // The client's other bodies may have taken its share meanwhile.
        if !self.budget.add_to_share(self.key, self.first) {
            return Poll::Ready(Err(NoRoom));
        }
        permit.forget();
        self.keep(self.first);
        Poll::Ready(Ok(()))
    }

    /// Takes the units that a body of so many bytes needs and does not have yet.
    pub(in crate::limit) fn grow_to(&self, bytes: u64) -> Result<(), NoRoom> {
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
    pub(in crate::limit) fn end(&self) {
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
        Ok(Waiting::new(permits, wait_timeout))
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
        Reservation::new(budget.client(&head), length, MAX)
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
