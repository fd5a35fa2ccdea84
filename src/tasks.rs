//! Tasks that can be aborted from outside, and the slots that they compete for.

use std::{
    future::Future,
    iter,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use pin_project_lite::pin_project;
use tokio::{runtime::Handle, sync::Notify, task::AbortHandle};

use crate::shared::{group::Group, peer::PeerId, registry::Registry, standing::Standing};

/// A set of tasks that discard in the background, until a shutdown aborts them.
///
/// Each task holds a slot. When all slots are taken, the next task evicts the one with the lowest
/// rate per slot of its peer ([`Registry`]). Several servers may share the slots. Each has a
/// [child](Self::child), which ends separately.
#[derive(Debug)]
pub(crate) struct Tasks {
    slots: Arc<TaskSlots>,
    group: Arc<Group>,
    parent: Option<Arc<Self>>,
    none_left: Notify,
}

/// The slots that a family of [`Tasks`] shares.
#[derive(Debug)]
struct TaskSlots {
    registry: Registry<AbortHandle>,
    #[cfg(feature = "axum")]
    begun: Notify,
}

impl Tasks {
    /// Creates a set of at most `most` concurrent tasks.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            slots: Arc::new(TaskSlots {
                registry: Registry::new(most),
                #[cfg(feature = "axum")]
                begun: Notify::new(),
            }),
            group: Arc::default(),
            parent: None,
            none_left: Notify::new(),
        }
    }

    /// Returns a set of tasks that takes the same slots. It ends with its parent, or before.
    pub(crate) fn child(self: &Arc<Self>) -> Self {
        Self {
            slots: Arc::clone(&self.slots),
            group: Arc::new(Group::child(&self.group)),
            parent: Some(Arc::clone(self)),
            none_left: Notify::new(),
        }
    }

    /// Spawns a future for a client that has sent `sent` bytes by now. Drops the future if there is
    /// no runtime, if there are no slots at all, or after [`end`](Self::end).
    pub(crate) fn spawn<F>(
        self: &Arc<Self>,
        now: Instant,
        peer: PeerId,
        sent: u64,
        make: impl FnOnce(Standing) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let registry = &self.slots.registry;
        let Some(entered) = registry.enter(now, peer, sent, &self.group) else {
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
        self.slots.begun.notify_waiters();
        let future = make(entered.standing);
        let task = runtime.spawn(Task { future, slot });
        if let Err(task) = registry.started(number, task.abort_handle()) {
            task.abort();
        }
    }

    /// Returns how many tasks may run.
    pub(crate) fn most(&self) -> usize {
        self.slots.registry.most()
    }

    /// Returns how many slots are taken, by the tasks of all servers.
    pub(crate) fn taken(&self) -> usize {
        self.slots.registry.running()
    }

    /// Returns how many of these tasks run, including those that were evicted and have not been
    /// dropped yet.
    pub(crate) fn running(&self) -> usize {
        self.group.tasks()
    }

    /// Evicts a task, of any server. Returns `false` if none runs.
    pub(crate) fn evict(&self) -> bool {
        match self.slots.registry.evict() {
            Some(evicted) => {
                evicted.iter().for_each(AbortHandle::abort);
                true
            }
            None => false,
        }
    }

    /// Returns whether a task was evicted and has not been dropped yet.
    #[cfg(feature = "axum")]
    pub(crate) fn is_evicting(&self) -> bool {
        self.slots.registry.is_evicting()
    }

    /// Aborts all tasks that run. No task can begin after that.
    pub(crate) fn end(&self) {
        for task in self.slots.registry.end(&self.group) {
            task.abort();
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.group.is_over()
    }

    /// Waits until no task is left, not even one that was evicted.
    pub(crate) async fn ended(&self) {
        loop {
            let none_left = self.none_left.notified();
            if self.running() == 0 {
                return;
            }
            none_left.await;
        }
    }

    /// Waits until at least one slot is taken.
    #[cfg(feature = "axum")]
    pub(crate) async fn taken_any(&self) {
        loop {
            let begun = self.slots.begun.notified();
            if self.taken() > 0 {
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

/// The slot of a task, which is released when this is dropped.
struct TaskSlot {
    tasks: Arc<Tasks>,
    number: u64,
}

impl Drop for TaskSlot {
    fn drop(&mut self) {
        let tasks = &self.tasks;
        tasks.slots.registry.leave(self.number, &tasks.group);
        let family = iter::successors(Some(&**tasks), |tasks| tasks.parent.as_deref());
        for tasks in family.filter(|tasks| tasks.running() == 0) {
            tasks.none_left.notify_waiters();
        }
    }
}

pin_project! {
    struct Task<F> {
        // Dropped before the slot, so that everything the future holds is gone by then.
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

/// Slots for tasks that run already. An evicted task is woken, and its [`Standing`] shows the
/// eviction.
#[derive(Debug)]
pub(crate) struct Slots {
    registry: Registry<Waker>,
    group: Arc<Group>,
}

impl Slots {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            registry: Registry::new(most),
            group: Arc::default(),
        }
    }

    /// Takes a slot for the task of `cx`, whose client has sent `sent` bytes by now. Returns `None`
    /// if there are no slots at all.
    pub(crate) fn take(
        self: &Arc<Self>,
        now: Instant,
        peer: PeerId,
        sent: u64,
        cx: &Context<'_>,
    ) -> Option<(Slot, Standing)> {
        let entered = self.registry.enter(now, peer, sent, &self.group)?;
        let number = entered.number;
        let slot = Slot {
            slots: Arc::clone(self),
            number,
        };
        if let Some(evicted) = entered.evicted {
            evicted.wake();
        }
        if let Err(waker) = self.registry.started(number, cx.waker().clone()) {
            waker.wake();
        }
        Some((slot, entered.standing))
    }
}

/// One of the [`Slots`], which is released when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    number: u64,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.registry.leave(self.number, &self.slots.group);
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
        tasks.spawn(Instant::now(), PeerId::alone(), 0, |_| future);
    }

    /// Spawns a task that only an eviction ends.
    fn hold(tasks: &Arc<Tasks>, now: Instant, peer: PeerId) -> Standing {
        let mut standing = None;
        tasks.spawn(now, peer, 0, |its| {
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
    async fn full_slots_evict_lowest_rate_per_slot() {
        let tasks = Arc::new(Tasks::new(4));
        let now = Instant::now();
        let [one, other] = [PeerId::Keyed(1), PeerId::Keyed(2)];
        let standings = [one, one, one, other].map(|peer| hold(&tasks, now, peer));
        standings[0].received(50_000, now);
        standings[2].received(1_000, now);
        hold(&tasks, now, other);
        assert_eq!(evicted(&standings), [false, true, false, false]);
        // Both peers have two slots: the slower holder is evicted.
        hold(&tasks, now, PeerId::alone());
        assert_eq!(evicted(&standings), [false, true, false, true]);
        assert_eq!(tasks.taken(), 4);
    }

    #[tokio::test]
    async fn newcomer_counts_for_its_own_peer() {
        let [one, other] = [PeerId::Keyed(1), PeerId::Keyed(2)];
        for (newcomer, expected) in [
            (one, [true, false, false, false]),
            (other, [false, false, true, false]),
        ] {
            let tasks = Arc::new(Tasks::new(4));
            let now = Instant::now();
            let standings = [one, one, other, other].map(|peer| hold(&tasks, now, peer));
            // The newcomer would take its peer's third slot.
            hold(&tasks, now, newcomer);
            assert_eq!(evicted(&standings), expected);
        }
    }

    #[tokio::test]
    async fn evict_ends_task_with_lowest_rate_per_slot() {
        let tasks = Arc::new(Tasks::new(4));
        let now = Instant::now();
        let standings = [1, 1, 2, 3].map(|key| hold(&tasks, now, PeerId::Keyed(key)));
        let now = now + Duration::from_secs(6);
        for (standing, bytes) in [(0, 1 << 20), (1, 1000), (3, 1 << 20)] {
            standings[standing].received(bytes, now);
        }
        assert!(tasks.evict());
        assert_eq!(evicted(&standings), [false, false, true, false]);
        // One peer has two of three now, which is more than half.
        assert!(tasks.evict());
        assert_eq!(evicted(&standings), [false, true, true, false]);
        assert!(tasks.evict() && tasks.evict() && !tasks.evict());
    }

    #[tokio::test]
    async fn newcomer_past_half_evicts_dormant_task_only() {
        let tasks = Arc::new(Tasks::new(4));
        let now = Instant::now();
        let standings = [1, 2, 3].map(|key| hold(&tasks, now, PeerId::Keyed(key)));
        assert_eq!(evicted(&standings), [false; 3]);
        let now = now + Duration::from_secs(6);
        standings[0].received(1 << 20, now);
        hold(&tasks, now, PeerId::alone());
        assert_eq!(evicted(&standings), [false, true, false]);
        standings[2].received(1 << 20, now);
        hold(&tasks, now, PeerId::alone());
        assert_eq!(evicted(&standings), [false, true, false]);
        assert_eq!(tasks.taken(), 4);
    }

    #[tokio::test]
    async fn evicted_task_counts_until_it_is_dropped() {
        let tasks = Arc::new(Tasks::new(1));
        hold(&tasks, Instant::now(), PeerId::alone());
        assert!(tasks.evict());
        assert_eq!((tasks.taken(), tasks.running()), (0, 1));
        tasks.ended().await;
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test]
    async fn child_ends_without_its_siblings_and_with_its_parent() {
        let parent = Arc::new(Tasks::new(2));
        let [one, other] = [(); 2].map(|()| Arc::new(parent.child()));
        let now = Instant::now();
        let standings = [&one, &other].map(|tasks| hold(tasks, now, PeerId::alone()));
        one.end();
        one.ended().await;
        assert!(one.is_over() && !other.is_over() && !parent.is_over());
        assert_eq!(
            [&one, &other, &parent].map(|tasks| tasks.running()),
            [0, 1, 1]
        );
        spawn(&one, pending());
        assert_eq!(one.running(), 0);

        let last = Arc::new(other.child());
        let now = now + Duration::from_secs(6);
        for _ in 0..2 {
            hold(&last, now, PeerId::alone());
        }
        assert_eq!(evicted(&standings), [false, true], "slots are shared");
        parent.end();
        last.ended().await;
        parent.ended().await;
        assert!(other.is_over() && last.is_over());
    }

    /// The group ends after the task has taken its slot, and before its handle is stored.
    #[tokio::test]
    async fn end_does_not_miss_task_that_begins() {
        let tasks = Arc::new(Tasks::default());
        tasks.spawn(Instant::now(), PeerId::alone(), 0, |_| {
            tasks.end();
            pending()
        });
        tasks.ended().await;
    }
}
