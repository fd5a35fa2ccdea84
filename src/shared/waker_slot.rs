//! Wakes a task that waits for another task's change.

use std::{
    sync::PoisonError,
    task::{Context, Poll, Waker},
};

use super::sync::{Mutex, MutexGuard};

/// A slot for the waker of the one task that waits. If several tasks wait, only the last one is
/// woken.
///
/// No wake-up is lost under two conditions. The waiting task registers its waker and then checks
/// again. The other task stores its change and then wakes. If a task registers too late to be
/// woken, it sees the stored change, because it takes the lock after the task that wakes.
#[derive(Debug, Default)]
pub(crate) struct WakerSlot(Mutex<Option<Waker>>);

impl WakerSlot {
    /// Completes once `is_so` returns `true`. Checks, registers the task's waker, and checks again.
    #[inline]
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

    /// Registers the task to be woken by the next [`wake`](Self::wake). Check afterwards.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        match &mut *self.lock() {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Wakes the task. Store the change before you call this.
    pub(crate) fn wake(&self) {
        let waker = self.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Locks the slot, and ignores poisoning. No panic leaves the slot half-updated, and bodies are
    /// dropped while unwinding.
    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
