//! The signal from the limit layer's body to its response.

use std::{future::poll_fn, sync::Arc, task::Poll};

use loom::{future::block_on, model, thread};

use crate::shared::limit_signal::{LimitSignal, Violation};

/// Checks that a waiting response observes the body's report.
fn is_told(report: fn(&LimitSignal), expected: Violation) {
    model(move || {
        let signal = Arc::new(LimitSignal::new(4));
        let body = thread::spawn({
            let signal = Arc::clone(&signal);
            move || report(&signal)
        });
        let violation = block_on(poll_fn(|cx| {
            signal.wake_on_report(cx);
            signal.violation().map_or(Poll::Pending, Poll::Ready)
        }));
        assert_eq!(violation, expected);
        body.join().unwrap();
    });
}

#[test]
fn response_is_notified_of_too_many_bytes() {
    is_told(
        |signal| signal.report(5),
        Violation::TooLong { received: 5 },
    );
}

#[test]
fn response_is_notified_of_too_few_bytes() {
    is_told(
        |signal| signal.report_too_slow(9),
        Violation::TooSlow { rate: 9 },
    );
}

/// A response body may move from one task to another.
#[test]
fn last_waiter_is_woken() {
    model(|| {
        let signal = Arc::new(LimitSignal::new(4));
        block_on(poll_fn(|cx| {
            signal.wake_on_report(cx);
            Poll::Ready(())
        }));
        let body = thread::spawn({
            let signal = Arc::clone(&signal);
            move || signal.report(5)
        });
        block_on(poll_fn(|cx| {
            signal.wake_on_report(cx);
            signal
                .violation()
                .map_or(Poll::Pending, |_| Poll::Ready(()))
        }));
        body.join().unwrap();
    });
}
