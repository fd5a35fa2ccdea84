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
/// 2. All holds together take a twenty-fifth of a connection's time at most, but for a first
///    [`BURST`]. Other streams have the rest, however many uploads are refused and however slow
///    their responses are.
/// 3. Everything that the holder did before it released the gate is visible to the connection
///    when that is free to write.
#[derive(Debug, Default)]
pub(crate) struct WriteGate {
    state: AtomicU8,
    writer: WakerSlot,
    held_time: Mutex<HeldTime>,
}

/// The time that holds have taken, less what has been made up for since: a twenty-fifth of the
/// time that has passed.
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

/// How long a task holds the gate at most. A service that has the whole response gives it to
/// hyper sooner.
pub(crate) const HOLD: Duration = Duration::from_millis(2);

/// Two holds to their end.
const BURST: Duration = Duration::from_millis(4);

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
    /// hold, and if holds have taken too much time.
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
