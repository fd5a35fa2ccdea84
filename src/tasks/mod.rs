//! Tasks that can be ended from outside, and slots that they compete for.

mod registry;
mod standing;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use pin_project_lite::pin_project;
use tokio::{runtime::Handle, sync::Notify, task::AbortHandle};

use self::registry::Registry;
pub(crate) use self::standing::Standing;
use crate::peer::Peer;

/// Tasks that discard in the background, until a shutdown has no more time for them.
///
/// Each holds a slot. When all are taken, the next task evicts the worst-placed one of the
/// peer with the most slots ([`Registry`]).
#[derive(Debug)]
pub(crate) struct Tasks {
    registry: Registry<AbortHandle>,
    none_left: Notify,
    #[cfg(feature = "axum")]
    begun: Notify,
}

impl Tasks {
    /// Allows at most `most` tasks at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            registry: Registry::new(most),
            none_left: Notify::new(),
            #[cfg(feature = "axum")]
            begun: Notify::new(),
        }
    }

    /// Runs a future. Drops it if there is no runtime, no slot at all, or no more time.
    pub(crate) fn spawn<F>(
        self: &Arc<Self>,
        now: Instant,
        peer: Peer,
        make: impl FnOnce(Standing) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let Some(entered) = self.registry.enter(now, peer) else {
            return;
        };
        let number = entered.number;
        let slot = TaskSlot {
            tasks: Arc::clone(self),
            number,
        };
        if let Some(evicted) = entered.evicted {
            evicted.abort();
        }
        #[cfg(feature = "axum")]
        self.begun.notify_waiters();
        let future = make(entered.standing);
        let task = runtime.spawn(Task { future, slot });
        if let Err(task) = self.registry.started(number, task.abort_handle()) {
            task.abort();
        }
    }

    /// How many may run.
    pub(crate) fn most(&self) -> usize {
        self.registry.most()
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.registry.running()
    }

    /// Evicts one task. Returns `false` if none runs.
    pub(crate) fn evict(&self, now: Instant) -> bool {
        match self.registry.evict(now) {
            Some(evicted) => {
                evicted.iter().for_each(AbortHandle::abort);
                true
            }
            None => false,
        }
    }

    /// Whether a task was evicted and has not been dropped yet.
    #[cfg(feature = "axum")]
    pub(crate) fn is_evicting(&self) -> bool {
        self.registry.is_evicting()
    }

    /// Ends all that run, and all that are still to come.
    pub(crate) fn end(&self) {
        for task in self.registry.end() {
            task.abort();
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.registry.is_over()
    }

    /// Waits until none is left, not even one that was evicted.
    pub(crate) async fn ended(&self) {
        loop {
            let none_left = self.none_left.notified();
            if self.registry.is_empty() {
                return;
            }
            none_left.await;
        }
    }

    /// Waits until at least one runs.
    #[cfg(feature = "axum")]
    pub(crate) async fn running_any(&self) {
        loop {
            let begun = self.begun.notified();
            if self.running() > 0 {
                return;
            }
            begun.await;
        }
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

/// A task's slot, given back when dropped.
struct TaskSlot {
    tasks: Arc<Tasks>,
    number: u64,
}

impl Drop for TaskSlot {
    fn drop(&mut self) {
        if self.tasks.registry.leave(self.number).nobody {
            self.tasks.none_left.notify_waiters();
        }
    }
}

pin_project! {
    struct Task<F> {
        // Dropped before the slot, so that what it holds is gone by then.
        #[pin]
        future: F,
        slot: TaskSlot,
    }
}

impl<F: Future<Output = ()>> Future for Task<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().future.poll(cx)
    }
}

/// Slots for tasks that run already: an evicted task is woken, and finds out by its
/// [`Standing`].
#[derive(Debug)]
pub(crate) struct Slots(Registry<Waker>);

impl Slots {
    pub(crate) fn new(most: usize) -> Self {
        Self(Registry::new(most))
    }

    /// Takes a slot for the task of `cx`. Returns `None` if there are no slots at all.
    pub(crate) fn take(
        self: &Arc<Self>,
        now: Instant,
        peer: Peer,
        cx: &Context<'_>,
    ) -> Option<(Slot, Standing)> {
        let entered = self.0.enter(now, peer)?;
        let number = entered.number;
        let slot = Slot {
            slots: Arc::clone(self),
            number,
        };
        if let Some(evicted) = entered.evicted {
            evicted.wake();
        }
        if let Err(waker) = self.0.started(number, cx.waker().clone()) {
            waker.wake();
        }
        Some((slot, entered.standing))
    }
}

/// One of the [`Slots`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    number: u64,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.0.leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        time::Duration,
    };

    use super::*;

    fn spawn<F>(tasks: &Arc<Tasks>, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tasks.spawn(Instant::now(), Peer::alone(), |_| future);
    }

    /// Spawns a task that only an eviction ends.
    fn hold(tasks: &Arc<Tasks>, now: Instant, peer: Peer) -> Standing {
        let mut standing = None;
        tasks.spawn(now, peer, |its| {
            standing = Some(its);
            pending()
        });
        standing.expect("there are slots")
    }

    fn evicted<const N: usize>(standings: &[Standing; N]) -> [bool; N] {
        standings.each_ref().map(Standing::is_evicted)
    }

    #[tokio::test]
    async fn tasks_end_by_themselves_or_from_outside() {
        let tasks = Arc::new(Tasks::default());
        spawn(&tasks, ready(()));
        tasks.ended().await;

        let held = Arc::new(());
        let hold = |held: Arc<()>| async move {
            let () = pending().await;
            drop(held);
        };
        spawn(&tasks, hold(Arc::clone(&held)));
        tasks.end();
        tasks.ended().await;
        spawn(&tasks, hold(Arc::clone(&held)));
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn without_a_runtime_nothing_runs() {
        let tasks = Arc::new(Tasks::default());
        spawn(&tasks, pending());
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test]
    async fn without_slots_nothing_runs() {
        let tasks = Arc::new(Tasks::new(0));
        spawn(&tasks, pending());
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test]
    async fn full_slots_evict_slowest_of_largest_peer() {
        let tasks = Arc::new(Tasks::new(4));
        let now = Instant::now();
        let [one, other] = [Peer::Keyed(1), Peer::Keyed(2)];
        let standings = [one, one, one, other].map(|peer| hold(&tasks, now, peer));
        standings[0].received(50_000, now);
        standings[2].received(10, now);
        hold(&tasks, now, other);
        assert_eq!(evicted(&standings), [false, true, false, false]);
        // Both have two: the slowest of either.
        hold(&tasks, now, Peer::alone());
        assert_eq!(evicted(&standings), [false, true, false, true]);
        assert_eq!(tasks.running(), 4);
    }

    #[tokio::test]
    async fn newcomer_counts_for_its_own_peer() {
        let tasks = Arc::new(Tasks::new(4));
        let now = Instant::now();
        let [one, other] = [Peer::Keyed(1), Peer::Keyed(2)];
        let standings = [one, one, other, other].map(|peer| hold(&tasks, now, peer));
        for standing in &standings[..2] {
            standing.received(1 << 20, now);
        }
        // It would be its third.
        hold(&tasks, now, one);
        assert_eq!(evicted(&standings), [true, false, false, false]);
    }

    #[tokio::test]
    async fn dormant_task_is_evicted_before_any_other() {
        let tasks = Arc::new(Tasks::new(3));
        let now = Instant::now();
        let [one, other] = [Peer::Keyed(1), Peer::Keyed(2)];
        let standings = [one, one, other].map(|peer| hold(&tasks, now, peer));
        let now = now + Duration::from_secs(6);
        for standing in &standings[..2] {
            standing.received(1 << 20, now);
        }
        assert!(tasks.evict(now));
        assert_eq!(evicted(&standings), [false, false, true]);
        assert!(tasks.evict(now) && tasks.evict(now) && !tasks.evict(now));
    }

    #[tokio::test]
    async fn newcomer_past_half_evicts_dormant_task_only() {
        let tasks = Arc::new(Tasks::new(4));
        let now = Instant::now();
        let standings = [1, 2, 3].map(|key| hold(&tasks, now, Peer::Keyed(key)));
        assert_eq!(evicted(&standings), [false; 3]);
        let now = now + Duration::from_secs(6);
        standings[0].received(1 << 20, now);
        hold(&tasks, now, Peer::alone());
        assert_eq!(evicted(&standings), [false, true, false]);
        standings[2].received(1 << 20, now);
        hold(&tasks, now, Peer::alone());
        assert_eq!(evicted(&standings), [false, true, false]);
        assert_eq!(tasks.running(), 4);
    }

    #[tokio::test]
    async fn evicted_task_counts_until_it_is_dropped() {
        let tasks = Arc::new(Tasks::new(1));
        hold(&tasks, Instant::now(), Peer::alone());
        assert!(tasks.evict(Instant::now()));
        assert_eq!((tasks.running(), tasks.registry.is_empty()), (0, false));
        tasks.ended().await;
        assert!(tasks.registry.is_empty());
    }

    /// Between its slot and its handle.
    #[tokio::test]
    async fn end_does_not_miss_task_that_begins() {
        let tasks = Arc::new(Tasks::default());
        tasks.spawn(Instant::now(), Peer::alone(), |_| {
            tasks.end();
            pending()
        });
        tasks.ended().await;
    }
}
