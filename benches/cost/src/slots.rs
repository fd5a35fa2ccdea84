//! Measures the lock of the slots: each linger takes it to begin, to be stored and to end.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use crate::{
    Effort,
    measure::{Runs, in_turn},
    process::{Cores, on_core},
    report::Section,
    shared::{group::Group, peer::PeerId, registry::Registry},
};

const SLOTS: usize = 65_536;
/// Connections of one client.
const OF_ONE: u64 = 4;

/// A registry, some of whose slots are taken.
struct Slots {
    registry: Registry<u64>,
    group: Arc<Group>,
    next: AtomicU64,
}

impl Slots {
    fn new(taken: usize) -> Self {
        let slots = Self {
            registry: Registry::new(SLOTS),
            group: Arc::default(),
            next: AtomicU64::new(0),
        };
        for _ in 0..taken {
            slots.enter();
        }
        slots
    }

    /// Takes a slot, which may evict another. Returns its number, unless it is evicted itself.
    fn enter(&self) -> Option<u64> {
        let client = self.next.fetch_add(1, Ordering::Relaxed);
        let peer = PeerId::Keyed(client / OF_ONE);
        // The clients have sent different amounts, so their ranks differ.
        let sent = client.wrapping_mul(7919) % 50_000;
        let entered = self
            .registry
            .enter(Instant::now(), peer, sent, &self.group)
            .expect("there are slots");
        let leave = |number| self.registry.leave(number, &self.group);
        entered.evicted.into_iter().for_each(leave);
        // The other thread may have evicted it already.
        match self.registry.started(entered.number, entered.number) {
            Ok(()) => Some(entered.number),
            Err(number) => {
                leave(number);
                None
            }
        }
    }

    /// Lets a linger begin and end. If all slots are taken, it ends another one.
    fn linger(&self) {
        let entered = self.enter();
        if self.registry.running() < SLOTS {
            entered
                .into_iter()
                .for_each(|number| self.registry.leave(number, &self.group));
        }
    }
}

/// Returns the lingers in a second that as many threads as there are cores begin and end.
fn rate(taken: usize, cores: &[Option<usize>], times: u32) -> f64 {
    let slots = Slots::new(taken);
    let start = Barrier::new(cores.len() + 1);
    let took = thread::scope(|scope| {
        let (slots, start) = (&slots, &start);
        for core in cores {
            scope.spawn(move || {
                on_core(*core, || {
                    start.wait();
                    (0..times).for_each(|_| slots.linger());
                    start.wait();
                });
            });
        }
        start.wait();
        let began = Instant::now();
        start.wait();
        began.elapsed()
    });
    // Silent holders are dormant after some seconds, and would be evicted.
    let left = slots.registry.running();
    assert!(
        left >= taken - taken / 100,
        "{left} of {taken} are left after {took:?}"
    );
    f64::from(times) * cores.len() as f64 / took.as_secs_f64()
}

/// Returns the milliseconds of the first linger that looks for a candidate, which builds the index.
fn first_search() -> f64 {
    let slots = Slots::new(SLOTS / 2 + 1);
    let began = Instant::now();
    slots.linger();
    began.elapsed().as_secs_f64() * 1e3
}

pub(crate) fn measure(effort: Effort) -> Section {
    let (rounds, times) = (effort.of(9, 1), effort.of(200_000, 1000));
    let two = Cores::find().map_or([None; 2], |cores| [Some(cores.server), Some(cores.load)]);
    let one = [two[0]];
    let levels = [
        ("no other", 0),
        ("half of the slots: no evictions yet", SLOTS / 2 - 2),
        ("three quarters: dormant ones are looked for", SLOTS / 4 * 3),
        ("all slots: each evicts another", SLOTS),
    ];
    let rows = levels.map(|(name, taken)| {
        let [on_one, on_two] = in_turn(
            rounds,
            [&mut || rate(taken, &one, times), &mut || {
                rate(taken, &two, times)
            }],
        );
        let thousands = |runs: &Runs| format!("{:.2} million", runs.median() / 1e6);
        vec![name.to_owned(), thousands(&on_one), thousands(&on_two)]
    });
    let [first] = in_turn(rounds, [&mut first_search]);
    Section {
        title: "Slots",
        how: format!(
            "Lingering closes per second that the registry of {SLOTS} slots begins and ends, \
             without their sockets and tasks: with one thread, and with two that contend for its \
             lock. {OF_ONE} connections of each client. Median of {rounds} rounds in turn."
        ),
        head: &["connections that linger", "one thread", "two threads"],
        rows: rows.into(),
        targets: Vec::new(),
        notes: vec![format!(
            "The first linger above half of the slots builds the index, in {first:.0} ms."
        )],
        plots: Vec::new(),
    }
}
