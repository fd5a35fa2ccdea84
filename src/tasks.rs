//! Tasks that can be ended from outside.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use pin_project_lite::pin_project;
use tokio::{runtime::Handle, sync::Notify, task::AbortHandle};

/// What reads on in the background, until a shutdown has no more time for it.
///
/// Past `most` of them, the one that has heard nothing for the longest gives way to the
/// next: the oldest may be an honest slow sender.
#[derive(Debug)]
pub(crate) struct Tasks {
    most: usize,
    /// What each task's [`Heard`] counts from.
    epoch: Instant,
    state: Mutex<State>,
    /// As in the state, to be read without its lock.
    running: AtomicUsize,
    none_left: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// There is no more time: whatever begins now ends at once.
    is_over: bool,
    next: u64,
    running: HashMap<u64, Running>,
}

#[derive(Debug)]
struct Running {
    /// `None` until it is known.
    task: Option<AbortHandle>,
    heard: Arc<Heard>,
}

/// When a task has heard of its client last, and whether it had to give way.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Microseconds from the tasks' epoch.
    last: AtomicU64,
    is_evicted: AtomicBool,
}

impl Heard {
    pub(crate) fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Acquire)
    }
}

/// A task's part of its [`Heard`].
#[derive(Clone, Debug)]
pub(crate) struct Hearing {
    epoch: Instant,
    heard: Arc<Heard>,
}

impl Hearing {
    /// The client has sent something.
    pub(crate) fn heard(&self, now: Instant) {
        let since = now.saturating_duration_since(self.epoch).as_micros();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.heard.last.store(since, Ordering::Relaxed);
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.heard.is_evicted()
    }
}

impl Tasks {
    /// At most so many at once.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            epoch: Instant::now(),
            state: Mutex::default(),
            running: AtomicUsize::new(0),
            none_left: Notify::new(),
        }
    }

    /// Runs it; or drops it, where there is no runtime or no more time.
    pub(crate) fn spawn<F>(self: &Arc<Self>, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_with(Instant::now(), |_| future);
    }

    /// As [`spawn`](Self::spawn), for what says when it hears of its client.
    pub(crate) fn spawn_with<F>(self: &Arc<Self>, now: Instant, make: impl FnOnce(Hearing) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let Some((place, hearing)) = self.take_place(now) else {
            return;
        };
        let number = place.number;
        let future = make(hearing);
        let task = runtime.spawn(Task { future, place });
        // It may have ended, or given way, in between, or the shutdown has passed it by.
        let has_to_end = {
            let mut state = self.state();
            let is_over = state.is_over;
            match state.running.get_mut(&number) {
                Some(running) => {
                    running.task = Some(task.abort_handle());
                    is_over
                }
                None => true,
            }
        };
        if has_to_end {
            task.abort();
        }
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Whether half of the places are taken.
    pub(crate) fn is_pressed(&self) -> bool {
        self.running() >= self.most.div_ceil(2)
    }

    /// Ends the one that has heard nothing for the longest; `false` where none runs.
    pub(crate) fn evict(&self) -> bool {
        let mut evicted = Vec::new();
        let gave_way = self.evict_from(&mut self.state(), &mut evicted);
        evicted.iter().for_each(AbortHandle::abort);
        gave_way
    }

    /// Ends all that run, and all that are still to come.
    pub(crate) fn end(&self) {
        let running: Vec<_> = {
            let mut state = self.state();
            state.is_over = true;
            let running = state.running.values();
            running.filter_map(|running| running.task.clone()).collect()
        };
        for task in running {
            task.abort();
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Waits until none runs.
    pub(crate) async fn ended(&self) {
        loop {
            let none_left = self.none_left.notified();
            if self.state().running.is_empty() {
                return;
            }
            none_left.await;
        }
    }

    fn take_place(self: &Arc<Self>, now: Instant) -> Option<(Place, Hearing)> {
        let mut evicted = Vec::new();
        let mut state = self.state();
        if state.is_over {
            return None;
        }
        while state.running.len() >= self.most {
            if !self.evict_from(&mut state, &mut evicted) {
                return None;
            }
        }
        let number = state.next;
        state.next += 1;
        let hearing = Hearing {
            epoch: self.epoch,
            heard: Arc::default(),
        };
        hearing.heard(now);
        let running = Running {
            task: None,
            heard: Arc::clone(&hearing.heard),
        };
        state.running.insert(number, running);
        self.running.store(state.running.len(), Ordering::Relaxed);
        drop(state);
        evicted.iter().for_each(AbortHandle::abort);
        let tasks = Arc::clone(self);
        Some((Place { tasks, number }, hearing))
    }

    /// `evicted` is to be aborted when the lock is free, for a task's drop takes it.
    fn evict_from(&self, state: &mut State, evicted: &mut Vec<AbortHandle>) -> bool {
        let last = |running: &Running| running.heard.last.load(Ordering::Relaxed);
        let running = state.running.iter();
        let longest = running.min_by_key(|(number, running)| (last(running), **number));
        let longest = longest.map(|(number, _)| *number);
        let Some(longest) = longest.and_then(|number| state.running.remove(&number)) else {
            return false;
        };
        self.running.store(state.running.len(), Ordering::Relaxed);
        longest.heard.is_evicted.store(true, Ordering::Release);
        evicted.extend(longest.task);
        true
    }

    /// A panic elsewhere leaves nothing half-done behind this lock, and tasks are
    /// dropped while unwinding.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

/// Among those that run; given back when dropped.
struct Place {
    tasks: Arc<Tasks>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = {
            let mut state = self.tasks.state();
            state.running.remove(&self.number);
            let left = state.running.len();
            self.tasks.running.store(left, Ordering::Relaxed);
            left
        };
        if left == 0 {
            self.tasks.none_left.notify_waiters();
        }
    }
}

pin_project! {
    struct Task<F> {
        // Dropped before the place, so that what it holds is gone by then.
        #[pin]
        future: F,
        place: Place,
    }
}

impl<F: Future<Output = ()>> Future for Task<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().future.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn they_end_by_themselves_or_from_outside() {
        let tasks = Arc::new(Tasks::default());
        tasks.spawn(ready(()));
        tasks.ended().await;

        let held = Arc::new(());
        let hold = |held: Arc<()>| async move {
            let () = pending().await;
            drop(held);
        };
        tasks.spawn(hold(Arc::clone(&held)));
        tasks.end();
        tasks.ended().await;
        tasks.spawn(hold(Arc::clone(&held)));
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn without_a_runtime_there_are_none() {
        let tasks = Arc::new(Tasks::default());
        tasks.spawn(pending());
        assert!(tasks.state().running.is_empty());
    }

    #[tokio::test]
    async fn the_longest_silent_gives_way() {
        let tasks = Arc::new(Tasks::new(2));
        let now = Instant::now();
        let mut hearings = Vec::new();
        for age in 1..=4 {
            let now = now + std::time::Duration::from_secs(age);
            tasks.spawn_with(now, |hearing| {
                hearings.push(hearing);
                pending()
            });
            if age == 2 {
                // The first has been heard of since.
                hearings[0].heard(now + std::time::Duration::from_secs(9));
            }
        }
        let evicted: Vec<_> = hearings.iter().map(Hearing::is_evicted).collect();
        assert_eq!(evicted, [false, true, true, false]);
        assert_eq!(tasks.running(), 2);
        assert!(tasks.is_pressed() && tasks.evict() && tasks.evict() && !tasks.evict());
    }

    #[tokio::test]
    async fn without_a_place_nothing_runs() {
        let tasks = Arc::new(Tasks::new(0));
        tasks.spawn(pending());
        assert_eq!(tasks.running(), 0);
    }

    /// Between its place and its handle.
    #[tokio::test]
    async fn an_end_does_not_miss_one_that_begins() {
        let tasks = Arc::new(Tasks::default());
        tasks.spawn_with(Instant::now(), |_| {
            tasks.end();
            pending()
        });
        tasks.ended().await;
    }
}
