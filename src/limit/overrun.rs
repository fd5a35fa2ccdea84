//! What the request body, the response future and the response body share.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Waker},
};

use super::Kind;

/// Tells the answer's side that the request body went past its limit, or came too
/// slowly.
///
/// It happens at most once. The order is: the count is stored, then whoever
/// waits is woken; a waiter first leaves its waker, then looks again.
#[derive(Debug)]
pub(super) struct Overrun {
    limit: u64,
    /// Bytes that had come when the limit was passed; 0 while it holds. A body
    /// cannot pass a limit with no bytes at all.
    received: AtomicU64,
    /// The rate that the body did not keep; 0 while it does, and where there is none.
    too_slow: AtomicU64,
    waiting: Mutex<Option<Waker>>,
}

impl Overrun {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            received: AtomicU64::new(0),
            too_slow: AtomicU64::new(0),
            waiting: Mutex::new(None),
        }
    }

    /// The limit, in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn report(&self, received: u64) {
        debug_assert_ne!(received, 0, "no limit is below zero");
        self.received.store(received, Ordering::Release);
        self.wake();
    }

    /// The body did not keep to the rate, in bytes per second.
    pub(super) fn report_too_slow(&self, rate: u64) {
        self.too_slow.store(rate.max(1), Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        let waiting = self.waiting().take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// The bytes that had come when the limit was passed.
    pub(super) fn received(&self) -> Option<u64> {
        match self.received.load(Ordering::Acquire) {
            0 => None,
            received => Some(received),
        }
    }

    /// What is wrong with the body, once something is.
    pub(super) fn kind(&self) -> Option<Kind> {
        if let Some(received) = self.received() {
            return Some(Kind::Streamed { received });
        }
        match self.too_slow.load(Ordering::Acquire) {
            0 => None,
            rate => Some(Kind::TooSlow { rate }),
        }
    }

    /// Has the task woken when the limit is passed; look at
    /// [`kind`](Self::kind) afterwards.
    pub(super) fn wake_on_report(&self, cx: &Context<'_>) {
        let mut waiting = self.waiting();
        match &mut *waiting {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// A panic elsewhere leaves nothing half-done behind this lock, and bodies
    /// are dropped while unwinding.
    fn waiting(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
