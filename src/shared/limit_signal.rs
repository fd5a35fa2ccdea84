//! Signals from a request body to its response.

use std::task::Context;

use super::{
    sync::{AtomicU64, Ordering},
    waker_slot::WakerSlot,
};

/// A signal that notifies the response when the request body goes over its limit, or comes too
/// slowly.
///
/// A signal is reported at most once.
#[derive(Debug)]
pub(crate) struct LimitSignal {
    limit: u64,
    /// The bytes that had come when the limit was exceeded; 0 until then. A body cannot exceed a
    /// limit with no bytes.
    received: AtomicU64,
    /// The rate that the body did not keep; 0 while it keeps the rate, or if there is none.
    too_slow: AtomicU64,
    /// The seconds after which there may be room for the body, and 1; 0 while it has room.
    no_room: AtomicU64,
    answer: WakerSlot,
}

/// A violation of a request body's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// The body went over its limit, after so many bytes.
    TooLong { received: u64 },
    /// The body was slower than so many bytes per second.
    TooSlow { rate: u64 },
    /// There is no room for it. There may be after so many seconds.
    NoRoom { retry_after: u64 },
}

impl LimitSignal {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            received: AtomicU64::new(0),
            too_slow: AtomicU64::new(0),
            no_room: AtomicU64::new(0),
            answer: WakerSlot::default(),
        }
    }

    /// Returns the limit, in bytes.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn report(&self, received: u64) {
        debug_assert_ne!(received, 0, "no limit is below zero");
        self.received.store(received, Ordering::Release);
        self.answer.wake();
    }

    /// Records that the body did not keep the rate, in bytes per second.
    pub(crate) fn report_too_slow(&self, rate: u64) {
        self.too_slow.store(rate.max(1), Ordering::Release);
        self.answer.wake();
    }

    /// There is no room for the body. There may be after so many seconds.
    pub(crate) fn report_no_room(&self, retry_after: u64) {
        self.no_room
            .store(retry_after.saturating_add(1), Ordering::Release);
        self.answer.wake();
    }

    /// Returns the bytes that had come when the limit was exceeded, if it was.
    pub(crate) fn received(&self) -> Option<u64> {
        match self.received.load(Ordering::Acquire) {
            0 => None,
            received => Some(received),
        }
    }

    /// Returns how the body broke its limits, once it has.
    pub(crate) fn violation(&self) -> Option<Violation> {
        if let Some(received) = self.received() {
            return Some(Violation::TooLong { received });
        }
        match self.too_slow.load(Ordering::Acquire) {
            0 => {}
            rate => return Some(Violation::TooSlow { rate }),
        }
        match self.no_room.load(Ordering::Acquire) {
            0 => None,
            no_room => Some(Violation::NoRoom {
                retry_after: no_room - 1,
            }),
        }
    }

    /// Registers the task to be woken on a violation. Check [`violation`](Self::violation)
    /// afterwards.
    pub(crate) fn wake_on_report(&self, cx: &Context<'_>) {
        self.answer.register(cx);
    }
}
