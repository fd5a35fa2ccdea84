//! Tasks that can be ended from outside.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::{runtime::Handle, sync::Notify, task::AbortHandle};

/// What reads on in the background, until a shutdown has no more time for it.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    state: Mutex<State>,
    none_left: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// There is no more time: whatever begins now ends at once.
    is_over: bool,
    next: u64,
    /// `None` until its task is known.
    running: HashMap<u64, Option<AbortHandle>>,
}

impl Tasks {
    /// Runs it; or drops it, where there is no runtime or no more time.
    pub(crate) fn spawn<F>(self: &Arc<Self>, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let Some(place) = Place::take(self) else {
            return;
        };
        let number = place.number;
        let task = runtime.spawn(Task { future, place });
        // It may have ended in between.
        if let Some(running) = self.state().running.get_mut(&number) {
            *running = Some(task.abort_handle());
        }
    }

    /// Ends all that run, and all that are still to come.
    pub(crate) fn end(&self) {
        let running: Vec<_> = {
            let mut state = self.state();
            state.is_over = true;
            state.running.values().flatten().cloned().collect()
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

    /// A panic elsewhere leaves nothing half-done behind this lock, and tasks are
    /// dropped while unwinding.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Among those that run; given back when dropped.
struct Place {
    tasks: Arc<Tasks>,
    number: u64,
}

impl Place {
    fn take(tasks: &Arc<Tasks>) -> Option<Self> {
        let mut state = tasks.state();
        if state.is_over {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.running.insert(number, None);
        Some(Self {
            tasks: Arc::clone(tasks),
            number,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.tasks.state();
        state.running.remove(&self.number);
        if state.running.is_empty() {
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
}
