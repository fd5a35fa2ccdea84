//! The guard's word to its answer, and what it has to know for that.

#[path = "../../src/limit/overrun.rs"]
mod overrun;

use std::{future::poll_fn, sync::Arc, task::Poll};

use loom::{future::block_on, model, thread};

use self::overrun::Overrun;

/// As far as an overrun knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Streamed { received: u64 },
    TooSlow { rate: u64 },
}

/// The answer that waits while the body reports.
fn is_told(report: fn(&Overrun), expected: Kind) {
    model(move || {
        let overrun = Arc::new(Overrun::new(4));
        let body = thread::spawn({
            let overrun = Arc::clone(&overrun);
            move || report(&overrun)
        });
        let kind = block_on(poll_fn(|cx| {
            overrun.wake_on_report(cx);
            overrun.kind().map_or(Poll::Pending, Poll::Ready)
        }));
        assert_eq!(kind, expected);
        body.join().unwrap();
    });
}

#[test]
fn an_answer_is_told_of_too_many_bytes() {
    is_told(|overrun| overrun.report(5), Kind::Streamed { received: 5 });
}

#[test]
fn an_answer_is_told_of_too_few() {
    is_told(
        |overrun| overrun.report_too_slow(9),
        Kind::TooSlow { rate: 9 },
    );
}

/// As a response's body is handed from one task to another.
#[test]
fn of_those_that_waited_the_last_is_told() {
    model(|| {
        let overrun = Arc::new(Overrun::new(4));
        block_on(poll_fn(|cx| {
            overrun.wake_on_report(cx);
            Poll::Ready(())
        }));
        let body = thread::spawn({
            let overrun = Arc::clone(&overrun);
            move || overrun.report(5)
        });
        block_on(poll_fn(|cx| {
            overrun.wake_on_report(cx);
            overrun.kind().map_or(Poll::Pending, |_| Poll::Ready(()))
        }));
        body.join().unwrap();
    });
}
