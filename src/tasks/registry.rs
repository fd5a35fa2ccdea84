//! Who runs, and who gives way.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Instant,
};

use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering};

/// The tasks that run, by what ends each.
///
/// Invariants:
/// 1. There are at most `most`.
/// 2. Each has to end that gave way, or was there when all had to: who takes it out gets
///    what ends it, or else who puts that in gets it back.
/// 3. Nobody is ended under the lock, for a task's drop takes it.
#[derive(Debug)]
pub(super) struct Registry<T> {
    most: usize,
    /// What each task's [`Heard`] counts from.
    epoch: Instant,
    state: Mutex<State<T>>,
    /// As in the state, to be read without its lock.
    running: AtomicUsize,
}

#[derive(Debug)]
struct State<T> {
    /// There is no more time: whatever begins now ends at once.
    is_over: bool,
    next: u64,
    running: HashMap<u64, Running<T>>,
}

/// One that runs.
#[derive(Debug)]
pub(super) struct Running<T> {
    /// What ends it; `None` until it is known.
    pub(super) task: Option<T>,
    heard: Arc<Heard>,
}

/// When a task has heard of its client last, and whether it had to give way.
#[derive(Debug)]
struct Heard {
    /// Microseconds from the registry's epoch.
    last: AtomicU64,
    is_evicted: AtomicBool,
}

/// A task's part of what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Hearing {
    epoch: Instant,
    heard: Arc<Heard>,
}

impl Hearing {
    fn new(epoch: Instant, now: Instant) -> Self {
        let heard = Arc::new(Heard {
            last: AtomicU64::new(0),
            is_evicted: AtomicBool::new(false),
        });
        let hearing = Self { epoch, heard };
        hearing.heard(now);
        hearing
    }

    /// The client has sent something.
    pub(crate) fn heard(&self, now: Instant) {
        let since = now.saturating_duration_since(self.epoch).as_micros();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.heard.last.store(since, Ordering::Relaxed);
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.heard.is_evicted.load(Ordering::Acquire)
    }
}

/// A place among those that run.
pub(super) struct Entered<T> {
    pub(super) number: u64,
    pub(super) hearing: Hearing,
    /// Who made room, and has to end.
    pub(super) gave_way: Option<Running<T>>,
}

impl<T: Clone> Registry<T> {
    /// Of at most so many at once.
    pub(super) fn new(most: usize) -> Self {
        let state = State {
            is_over: false,
            next: 0,
            running: HashMap::new(),
        };
        Self {
            most,
            epoch: Instant::now(),
            state: Mutex::new(state),
            running: AtomicUsize::new(0),
        }
    }

    /// `None` where there is no place, or no more time.
    pub(super) fn enter(&self, now: Instant) -> Option<Entered<T>> {
        let mut state = self.state();
        if state.is_over {
            return None;
        }
        let gave_way = match state.running.len() < self.most {
            true => None,
            false => Some(self.evict_from(&mut state)?),
        };
        let number = state.next;
        state.next += 1;
        let hearing = Hearing::new(self.epoch, now);
        let running = Running {
            task: None,
            heard: Arc::clone(&hearing.heard),
        };
        state.running.insert(number, running);
        self.count(&state);
        Some(Entered {
            number,
            hearing,
            gave_way,
        })
    }

    /// It runs, and this ends it.
    ///
    /// # Errors
    ///
    /// It has to end: it has given way meanwhile, or all have to.
    pub(super) fn started(&self, number: u64, task: T) -> Result<(), T> {
        let mut state = self.state();
        let is_over = state.is_over;
        match state.running.get_mut(&number) {
            Some(running) if !is_over => {
                running.task = Some(task);
                Ok(())
            }
            _ => Err(task),
        }
    }

    /// It runs no more. Whether it was the last.
    pub(super) fn leave(&self, number: u64) -> bool {
        let mut state = self.state();
        state.running.remove(&number);
        self.count(&state);
        state.running.is_empty()
    }

    /// The one that has heard nothing for the longest gives way.
    pub(super) fn evict(&self) -> Option<Running<T>> {
        self.evict_from(&mut self.state())
    }

    fn evict_from(&self, state: &mut State<T>) -> Option<Running<T>> {
        let last = |running: &Running<T>| running.heard.last.load(Ordering::Relaxed);
        let running = state.running.iter();
        let longest = running.min_by_key(|(number, running)| (last(running), **number));
        let longest = *longest?.0;
        let longest = state.running.remove(&longest)?;
        self.count(state);
        longest.heard.is_evicted.store(true, Ordering::Release);
        Some(longest)
    }

    /// All have to end, and those still to come; what ends them, as far as it is known.
    pub(super) fn end(&self) -> Vec<T> {
        let mut state = self.state();
        state.is_over = true;
        let running = state.running.values();
        running.filter_map(|running| running.task.clone()).collect()
    }

    pub(super) fn is_over(&self) -> bool {
        self.state().is_over
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state().running.is_empty()
    }

    /// How many run.
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Whether half of the places are taken.
    pub(super) fn is_pressed(&self) -> bool {
        self.running() >= self.most.div_ceil(2)
    }

    /// Under the state's lock, so that the latest count stays.
    fn count(&self, state: &State<T>) {
        self.running.store(state.running.len(), Ordering::Relaxed);
    }

    /// A panic elsewhere leaves nothing half-done behind this lock, and tasks are
    /// dropped while unwinding.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
