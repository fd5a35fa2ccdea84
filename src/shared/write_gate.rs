//! Makes the parts of an HTTP/2 response leave together.

use std::{
    sync::PoisonError,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    sync::{AtomicU8, Mutex, MutexGuard, Ordering},
    waker_slot::WakerSlot,
};

/// Keeps an HTTP/2 connection from writing while a task holds the gate.
///
/// curl 7.88 ends its stream as soon as it reads the head of an error, short of the length that
/// it declared. h2 then resets the stream (RFC 9113 §8.1.1), and discards the part of the
/// response that it has not written. So the head must not leave alone.
///
/// # Invariants
///
/// 1. Only one task holds the gate at a time, and no task can take it again until the connection
///    has been able to write. However many streams are refused, the connection waits for one
///    hold. Most often their responses leave together with that one.
/// 2. When a response is late, it was held for nothing, and so may the next one be. So no task
///    takes the gate for [`REST`] after that. Other streams of the connection lose a twenty-fifth
///    of their time at most.
/// 3. Everything that the holder did before it released the gate is visible to the connection
///    when that is free to write.
#[derive(Debug, Default)]
pub(crate) struct WriteGate {
    state: AtomicU8,
    writer: WakerSlot,
    rests_until: Mutex<Option<Instant>>,
}

/// How long a task holds the gate at most. A service that has the whole response gives it to
/// hyper sooner.
pub(crate) const HOLD: Duration = Duration::from_millis(2);

const REST: Duration = HOLD.saturating_mul(25);

const FREE: u8 = 0;
const HELD: u8 = 1;
/// It was held, and nothing has been written since.
const SPENT: u8 = 2;

impl WriteGate {
    /// Ready while no task holds the gate. Call it only before a write.
    pub(crate) fn poll_free(&self, cx: &Context<'_>) -> Poll<()> {
        self.writer.poll_until(cx, || self.is_free())
    }

    fn is_free(&self) -> bool {
        match self.state.load(Ordering::Acquire) {
            HELD => false,
            SPENT => {
                self.state.store(FREE, Ordering::Release);
                true
            }
            _ => true,
        }
    }

    /// Takes the gate. Returns `false` if a task holds it, if nothing was written since the last
    /// hold, and while it rests.
    pub(super) fn hold(&self, now: Instant) -> bool {
        if self.rests_until().is_some_and(|until| now < until) {
            return false;
        }
        let held = self
            .state
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
        held.is_ok()
    }

    /// Lets the connection write.
    pub(super) fn release(&self) {
        self.state.store(SPENT, Ordering::Release);
        self.writer.wake();
    }

    /// Begins the rest after a late response.
    pub(super) fn rest(&self, now: Instant) {
        *self.rests_until() = now.checked_add(REST);
    }

    fn rests_until(&self) -> MutexGuard<'_, Option<Instant>> {
        let rests_until = self.rests_until.lock();
        rests_until.unwrap_or_else(PoisonError::into_inner)
    }
}
