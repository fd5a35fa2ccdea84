//! Has the parts of an answer leave together.

use std::{
    sync::PoisonError,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    sync::{AtomicU8, Mutex, MutexGuard, Ordering},
    waker_slot::WakerSlot,
};

/// Keeps a connection of HTTP/2 from writing while somebody holds it.
///
/// curl 7.88 ends its stream at once when it reads the head of an error, short of the
/// length that it declared. h2 answers that with a reset (RFC 9113 §8.1.1), and throws
/// away what it has not written of the answer. So the head does not leave alone.
///
/// One holds it at a time, and after that nobody before the connection has been free to
/// write: however many streams are refused, it waits no longer than one holds it. The
/// answers of the others leave with that one's, most often.
///
/// A response that is not there in time was held for nothing, and so may the next one be. So
/// nobody holds it for [`REST`] after that: other streams of the connection lose a twenty-fifth
/// of their time at most, however many uploads are refused.
///
/// What its holder has done is there when the connection is free to write.
#[derive(Debug, Default)]
pub(crate) struct WriteGate {
    state: AtomicU8,
    writer: WakerSlot,
    rests_until: Mutex<Option<Instant>>,
}

/// How long a response is waited for. A service that has it whole gives it to hyper in less.
pub(crate) const HOLD: Duration = Duration::from_millis(2);

const REST: Duration = HOLD.saturating_mul(25);

const FREE: u8 = 0;
const HELD: u8 = 1;
/// It was held, and nothing has been written since.
const SPENT: u8 = 2;

impl WriteGate {
    /// Ready while nobody holds it.
    pub(crate) fn poll_free(&self, cx: &Context<'_>) -> Poll<()> {
        self.writer.poll_until(cx, || self.is_free())
    }

    /// Who asks is about to write.
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

    /// Returns `false` if somebody holds it already or has only just done so, and while it rests.
    pub(super) fn hold(&self, now: Instant) -> bool {
        if self.rests_until().is_some_and(|until| now < until) {
            return false;
        }
        let held = self
            .state
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
        held.is_ok()
    }

    /// The holder is done: the connection may write.
    pub(super) fn release(&self) {
        self.state.store(SPENT, Ordering::Release);
        self.writer.wake();
    }

    /// Nobody holds it for a while: a response was not there in time.
    pub(super) fn rest(&self, now: Instant) {
        *self.rests_until() = now.checked_add(REST);
    }

    fn rests_until(&self) -> MutexGuard<'_, Option<Instant>> {
        let rests_until = self.rests_until.lock();
        rests_until.unwrap_or_else(PoisonError::into_inner)
    }
}
