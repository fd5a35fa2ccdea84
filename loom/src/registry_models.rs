use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use loom::{model, thread};

use crate::shared::{group::Group, peer::PeerId, registry::Registry, standing::Standing};

/// A registry whose handle for a task is its name. A std lock records the ended tasks, because
/// their order does not matter to the model.
struct Tasks {
    registry: Registry<&'static str>,
    group: Arc<Group>,
    start: Instant,
    ended: Mutex<Vec<&'static str>>,
}

impl Tasks {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            registry: Registry::new(most),
            group: Arc::default(),
            start: Instant::now(),
            ended: Mutex::default(),
        })
    }

    fn abort(&self, task: &'static str) {
        self.ended.lock().unwrap().push(task);
    }

    fn is_ended(&self, task: &str) -> bool {
        self.ended.lock().unwrap().contains(&task)
    }

    /// Spawns a task like the crate's `spawn`. Returns its number and its standing if it got a
    /// slot.
    fn spawn(&self, task: &'static str) -> Option<(u64, Standing)> {
        let entered = self
            .registry
            .enter(self.start, PeerId::Keyed(1), 0, &self.group)?;
        entered
            .evicted
            .into_iter()
            .for_each(|task| self.abort(task));
        let started = self.registry.started(entered.number, task);
        started.unwrap_or_else(|task| self.abort(task));
        Some((entered.number, entered.standing))
    }

    fn evict(&self) -> bool {
        let evicted = self.registry.evict();
        evicted
            .flatten()
            .into_iter()
            .for_each(|task| self.abort(task));
        evicted.is_some()
    }

    fn leave(&self, number: u64) {
        self.registry.leave(number, &self.group);
    }

    fn end(&self) {
        let running = self.registry.end(&self.group);
        running.into_iter().for_each(|task| self.abort(task));
    }
}

fn with<T: 'static>(
    tasks: &Arc<Tasks>,
    run: impl FnOnce(&Tasks) -> T + 'static,
) -> thread::JoinHandle<T> {
    let tasks = Arc::clone(tasks);
    thread::spawn(move || run(&tasks))
}

#[test]
fn of_two_for_one_slot_the_first_is_evicted() {
    model(|| {
        let tasks = Tasks::new(1);
        let names = ["a", "b"];
        let spawned = names.map(|name| with(&tasks, move |tasks| tasks.spawn(name).unwrap()));
        assert!(tasks.registry.running() <= 1);
        let spawned = spawned.map(|spawned| spawned.join().unwrap());
        for (name, (number, standing)) in names.into_iter().zip(spawned) {
            assert_eq!(tasks.is_ended(name), number == 0, "{name}");
            assert_eq!(standing.is_evicted(), number == 0, "{name}");
        }
        assert_eq!(tasks.registry.running(), 1);
        assert_eq!(tasks.registry.end(&tasks.group).len(), 1);
    });
}

#[test]
fn an_end_misses_none() {
    model(|| {
        let tasks = Tasks::new(2);
        let names = ["a", "b"];
        let spawned = names.map(|name| with(&tasks, move |tasks| tasks.spawn(name)));
        tasks.end();
        for (name, spawned) in names.into_iter().zip(spawned) {
            let has_run = spawned.join().unwrap().is_some();
            assert_eq!(tasks.is_ended(name), has_run, "{name}");
        }
        assert!(tasks.spawn("late").is_none());
    });
}

/// One task leaves, one enters, and one is evicted. Any of those present may be evicted.
#[test]
fn the_count_is_right_at_rest() {
    model(|| {
        let tasks = Tasks::new(2);
        let (first, _) = tasks.spawn("first").unwrap();
        let evicts = with(&tasks, Tasks::evict);
        let second = with(&tasks, |tasks| tasks.spawn("second").unwrap());
        tasks.leave(first);
        evicts.join().unwrap();
        second.join().unwrap();
        let left = usize::from(!tasks.is_ended("second"));
        assert_eq!(tasks.registry.end(&tasks.group).len(), left);
        assert_eq!(tasks.registry.running(), left);
    });
}

/// The bytes that it receives may come too late to save it.
#[test]
fn evicted_task_knows_it() {
    model(|| {
        let tasks = Tasks::new(2);
        let names = ["a", "b"];
        let standings = names.map(|name| tasks.spawn(name).unwrap().1);
        let receives = thread::spawn({
            let standing = standings[0].clone();
            let later = tasks.start + Duration::from_secs(1);
            move || standing.received(1 << 20, later)
        });
        assert!(tasks.evict());
        receives.join().unwrap();
        let evicted = standings.map(|standing| standing.is_evicted());
        assert_eq!(evicted, names.map(|name| tasks.is_ended(name)));
        assert_ne!(evicted[0], evicted[1]);
    });
}

#[test]
fn group_is_empty_when_all_have_left() {
    model(|| {
        let tasks = Tasks::new(2);
        let numbers = ["a", "b"].map(|name| tasks.spawn(name).unwrap().0);
        let left = numbers.map(|number| {
            with(&tasks, move |tasks| {
                tasks.leave(number);
                tasks.group.tasks()
            })
        });
        let left = left.map(|left| left.join().unwrap());
        assert!(left.contains(&0), "the last task to leave finds none left");
        assert_eq!(tasks.registry.running(), 0);
    });
}

/// A task begins while its parent group ends.
#[test]
fn end_of_parent_misses_no_task_of_child() {
    model(|| {
        let tasks = Tasks::new(2);
        let family = Arc::new(Tasks {
            registry: Registry::new(2),
            group: Arc::new(Group::child(&tasks.group)),
            start: tasks.start,
            ended: Mutex::default(),
        });
        let spawned = with(&family, |family| family.spawn("a"));
        let running = family.registry.end(&tasks.group);
        running.into_iter().for_each(|task| family.abort(task));
        let has_run = spawned.join().unwrap().is_some();
        assert_eq!(family.is_ended("a"), has_run);
    });
}

/// A task is evicted while it leaves by itself. It must not count as one that has yet to leave.
#[test]
fn evicted_task_counts_until_it_leaves() {
    model(|| {
        let tasks = Tasks::new(1);
        let (first, standing) = tasks.spawn("first").unwrap();
        let leaves = with(&tasks, move |tasks| tasks.leave(first));
        let (second, _) = tasks.spawn("second").unwrap();
        leaves.join().unwrap();
        assert!(!tasks.registry.is_evicting());
        assert_eq!(tasks.is_ended("first"), standing.is_evicted());
        tasks.leave(second);
        assert_eq!(tasks.group.tasks(), 0);
    });
}
