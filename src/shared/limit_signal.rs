//! Signals from a request body to its response.

use std::task::Context;

use super::{
    sync::{AtomicU8, AtomicU64, Ordering},
    waker_slot::WakerSlot,
};

/// A signal that notifies the response when the request body breaks its limits.
///
/// A signal is reported at most once.
#[derive(Debug)]
pub(crate) struct LimitSignal {
    limit: u64,
    /// Which limit the body broke; 0 until then. It is stored after `number`, and read before it.
    code: AtomicU8,
    /// The number that belongs to `code`.
    number: AtomicU64,
    answer: WakerSlot,
}

/// A violation of a request body's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// The body went over its limit, after so many bytes.
    TooLong { received: u64 },
    /// The body was slower than so many bytes per second.
    TooSlow { rate: u64 },
    /// The client was silent for so many nanoseconds.
    Idle { nanoseconds: u64 },
    /// The body did not end within so many nanoseconds.
    Late { nanoseconds: u64 },
    /// There is no room for it. There may be after so many seconds.
    NoRoom { retry_after: u64 },
}

impl Violation {
    fn encode(self) -> (u8, u64) {
        match self {
            Self::TooLong { received } => (1, received),
            Self::TooSlow { rate } => (2, rate),
            Self::Idle { nanoseconds } => (3, nanoseconds),
            Self::Late { nanoseconds } => (4, nanoseconds),
            Self::NoRoom { retry_after } => (5, retry_after),
        }
    }

    fn decode(code: u8, number: u64) -> Option<Self> {
        Some(match code {
            1 => Self::TooLong { received: number },
            2 => Self::TooSlow { rate: number },
            3 => Self::Idle {
                nanoseconds: number,
            },
            4 => Self::Late {
                nanoseconds: number,
            },
            5 => Self::NoRoom {
                retry_after: number,
            },
            _ => return None,
        })
    }
}

impl LimitSignal {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            code: AtomicU8::new(0),
            number: AtomicU64::new(0),
            answer: WakerSlot::default(),
        }
    }

    /// Returns the limit, in bytes.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn report(&self, violation: Violation) {
        let (code, number) = violation.encode();
        self.number.store(number, Ordering::Relaxed);
        self.code.store(code, Ordering::Release);
        self.answer.wake();
    }

    /// Returns the bytes that had come when the limit was exceeded, if it was.
    pub(crate) fn received(&self) -> Option<u64> {
        match self.violation()? {
            Violation::TooLong { received } => Some(received),
            _ => None,
        }
    }

    /// Returns how the body broke its limits, once it has.
    pub(crate) fn violation(&self) -> Option<Violation> {
        let code = self.code.load(Ordering::Acquire);
        Violation::decode(code, self.number.load(Ordering::Relaxed))
    }

    /// Registers the task to be woken on a violation. Check [`violation`](Self::violation)
    /// afterwards.
    pub(crate) fn wake_on_report(&self, cx: &Context<'_>) {
        self.answer.register(cx);
    }
}

#[cfg(all(test, not(bodyguard_loom)))]
mod tests {
    use super::*;

    #[test]
    fn reported_violation_is_returned() {
        for violation in [
            Violation::TooLong { received: 5 },
            Violation::TooSlow { rate: 240 },
            Violation::Idle {
                nanoseconds: 30_000_000_000,
            },
            Violation::Late { nanoseconds: 0 },
            Violation::NoRoom { retry_after: 0 },
        ] {
            let signal = LimitSignal::new(4);
            assert_eq!(signal.violation(), None);
            signal.report(violation);
            assert_eq!(signal.violation(), Some(violation));
        }
    }
}
