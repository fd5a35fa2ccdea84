//! The word that a request body has for its answer.

use std::task::Context;

use super::Kind;
use crate::shared::{
    sync::{AtomicU64, Ordering},
    waiter::Waiter,
};

/// Tells the answer's side that the request body went past its limit, or came too
/// slowly.
///
/// It happens at most once.
#[derive(Debug)]
pub(super) struct Overrun {
    limit: u64,
    /// Bytes that had come when the limit was passed; 0 while it holds. A body
    /// cannot pass a limit with no bytes at all.
    received: AtomicU64,
    /// The rate that the body did not keep; 0 while it does, and where there is none.
    too_slow: AtomicU64,
    answer: Waiter,
}

impl Overrun {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            received: AtomicU64::new(0),
            too_slow: AtomicU64::new(0),
            answer: Waiter::default(),
        }
    }

    /// The limit, in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn report(&self, received: u64) {
        debug_assert_ne!(received, 0, "no limit is below zero");
        self.received.store(received, Ordering::Release);
        self.answer.wake();
    }

    /// The body did not keep to the rate, in bytes per second.
    pub(super) fn report_too_slow(&self, rate: u64) {
        self.too_slow.store(rate.max(1), Ordering::Release);
        self.answer.wake();
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
        self.answer.register(cx);
    }
}
