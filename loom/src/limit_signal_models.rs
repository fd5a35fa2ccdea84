//! The signal from the limit layer's body to its response.

use std::{future::poll_fn, sync::Arc, task::Poll};

use loom::{future::block_on, model, thread};

use crate::shared::limit_signal::{LimitSignal, Violation};

/// A waiting response observes the body's report, with the number that belongs to it.
#[test]
fn response_is_notified_of_a_violation() {
    for violation in [
        Violation::TooLong { received: 5 },
        Violation::TooSlow { rate: 9 },
    ] {
        model(move || {
            let signal = Arc::new(LimitSignal::new(4));
            let body = thread::spawn({
                let signal = Arc::clone(&signal);
                move || signal.report(violation)
            });
            let seen = block_on(poll_fn(|cx| {
                signal.wake_on_report(cx);
                signal.violation().map_or(Poll::Pending, Poll::Ready)
            }));
            assert_eq!(seen, violation);
            body.join().unwrap();
        });
    }
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
            move || signal.report(Violation::TooLong { received: 5 })
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
