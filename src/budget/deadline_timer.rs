//! The timer that drives [`Discarding`].

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use super::{Bounds, Discarding, StopReason};

pin_project! {
    /// A timer that waits until the limits end a drain or a lingering close.
    #[derive(Debug, Default)]
    pub(crate) struct DeadlineTimer {
        // Made at the first poll, because it panics in a runtime without timers, and a
        // `DeadlineTimer` may be made in a drop.
        #[pin]
        timer: Option<Sleep>,
    }
}

impl DeadlineTimer {
    /// Polls for the end of the drain or lingering close.
    ///
    /// The timer is set to the earliest possible end. Bytes that arrive meanwhile delay the end, so
    /// the timer fires too early and is set again. That is one reset for each timeout, and not one
    /// for each read.
    pub(crate) fn poll_over(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        discarding: &Discarding,
        bounds: &Bounds,
    ) -> Poll<StopReason> {
        let mut timer = self.project().timer;
        loop {
            if let Some(timer) = timer.as_mut().as_pin_mut() {
                ready!(timer.poll(cx));
            }
            let now = Instant::now().into_std();
            if let Some(end) = discarding.over_at(now, bounds) {
                return Poll::Ready(end);
            }
            timer.set(Some(sleep(discarding.max_wait(now, bounds))));
        }
    }
}
