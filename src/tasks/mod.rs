//! Tasks that can be ended from outside.

mod registry;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use pin_project_lite::pin_project;
use tokio::{runtime::Handle, sync::Notify, task::AbortHandle};

pub(crate) use self::registry::Hearing;
use self::registry::{Registry, Running};

/// What reads on in the background, until a shutdown has no more time for it.
///
/// Past `most` of them, the one that has heard nothing for the longest gives way to the
/// next: the oldest may be an honest slow sender.
#[derive(Debug)]
pub(crate) struct Tasks {
    registry: Registry<AbortHandle>,
    none_left: Notify,
}

impl Tasks {
    /// At most so many at once.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            registry: Registry::new(most),
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
        let Some(entered) = self.registry.enter(now) else {
            return;
        };
        let number = entered.number;
        let place = Place {
            tasks: Arc::clone(self),
            number,
        };
        entered.gave_way.iter().for_each(Running::abort);
        let future = make(entered.hearing);
        let task = runtime.spawn(Task { future, place });
        if let Err(task) = self.registry.started(number, task.abort_handle()) {
            task.abort();
        }
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.registry.running()
    }

    /// Whether half of the places are taken.
    pub(crate) fn is_pressed(&self) -> bool {
        self.registry.is_pressed()
    }

    /// Ends the one that has heard nothing for the longest; `false` where none runs.
    pub(crate) fn evict(&self) -> bool {
        let gave_way = self.registry.evict();
        gave_way.iter().for_each(Running::abort);
        gave_way.is_some()
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

    /// Waits until none runs.
    pub(crate) async fn ended(&self) {
        loop {
            let none_left = self.none_left.notified();
            if self.registry.is_empty() {
                return;
            }
            none_left.await;
        }
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Running<AbortHandle> {
    fn abort(&self) {
        self.task.iter().for_each(AbortHandle::abort);
    }
}

/// Among those that run; given back when dropped.
struct Place {
    tasks: Arc<Tasks>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.tasks.registry.leave(self.number) {
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
        assert_eq!(tasks.running(), 0);
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
