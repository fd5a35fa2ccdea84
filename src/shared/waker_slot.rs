//! A task that waits for what another one changes.

use std::{
    sync::PoisonError,
    task::{Context, Poll, Waker},
};

use super::sync::{Mutex, MutexGuard};

/// Where the one task that waits leaves its waker; of several the last.
///
/// No wake-up is lost as long as who waits leaves its waker and then looks again, and who
/// changes something stores that and then wakes. A waiter that comes too late to be woken
/// sees what was stored, for it has the lock after the one that wakes.
#[derive(Debug, Default)]
pub(crate) struct WakerSlot(Mutex<Option<Waker>>);

impl WakerSlot {
    /// Ready once it is so: looks, leaves the task's waker, and looks again.
    pub(crate) fn poll_until(&self, cx: &Context<'_>, mut is_so: impl FnMut() -> bool) -> Poll<()> {
        if is_so() {
            return Poll::Ready(());
        }
        self.register(cx);
        match is_so() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Has the task woken by the next [`wake`](Self::wake); look afterwards.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        match &mut *self.lock() {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Wakes the task; store what it waits for before.
    pub(crate) fn wake(&self) {
        let waker = self.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A panic elsewhere leaves nothing half-done behind this lock, and bodies are dropped
    /// while unwinding.
    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
