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

/// A gate that keeps an HTTP/2 connection from writing while a task holds it.
///
/// curl 7.88 ends its stream as soon as it reads the head of an error response, before it has sent
/// the length that it declared. h2 then resets the stream (RFC 9113 §8.1.1), and discards the part
/// of the response that it has not written. So the head must not leave alone.
///
/// # Invariants
///
/// 1. Only one task holds the gate at a time, and no task can take it again until the connection
///    has been able to write. However many streams are refused, the connection waits for one hold.
///    Most often their responses leave together with the response of that hold.
/// 2. All holds together take at most a twenty-fifth of a connection's time, except for a first
///    [`BURST`]. The remaining time is left to other streams, however many uploads are refused and
///    however slow their responses are.
/// 3. Everything that the holder did before it released the gate is visible to the connection when
///    the connection is free to write.
#[derive(Debug, Default)]
pub(crate) struct WriteGate {
    state: AtomicU8,
    writer: WakerSlot,
    held_time: Mutex<HeldTime>,
}

/// The time that holds have taken, less a twenty-fifth of the time that has passed since.
#[derive(Clone, Copy, Debug, Default)]
struct HeldTime {
    time: Duration,
    at: Option<Instant>,
}

impl HeldTime {
    fn left(&self, now: Instant) -> Duration {
        let passed = self.at.map(|at| now.saturating_duration_since(at));
        self.time.saturating_sub(passed.unwrap_or_default() / 25)
    }

    fn spend(&mut self, time: Duration, now: Instant) {
        self.time = self.left(now).saturating_add(time);
        self.at = Some(now);
    }
}

/// The longest time for which a task holds the gate. A service that has the whole response passes
/// it to hyper sooner.
pub(crate) const HOLD: Duration = Duration::from_millis(2);

/// The time of two full holds.
const BURST: Duration = Duration::from_millis(4);

const FREE: u8 = 0;
const HELD: u8 = 1;
/// The gate was held, and nothing has been written since.
const SPENT: u8 = 2;

impl WriteGate {
    /// Completes when no task holds the gate. Call this only before a write.
    #[inline]
    pub(crate) fn poll_free(&self, cx: &Context<'_>) -> Poll<()> {
        self.writer.poll_until(cx, || self.is_free())
    }

    #[inline]
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
    /// hold, or if holds have taken too much time.
    pub(super) fn hold(&self, now: Instant) -> bool {
        if self.held_time().left(now) >= BURST {
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

    /// Counts the time of a hold.
    pub(super) fn spend(&self, time: Duration, now: Instant) {
        self.held_time().spend(time, now);
    }

    fn held_time(&self) -> MutexGuard<'_, HeldTime> {
        self.held_time
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
