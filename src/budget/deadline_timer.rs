//! The timer that [`Discarding`] is driven by.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use super::{Bounds, Discarding, StopReason};

pin_project! {
    /// Waits until the bounds end a drain or a linger.
    #[derive(Debug, Default)]
    pub(crate) struct DeadlineTimer {
        // Made when first polled: where the runtime has no timers that panics,
        // and what makes a `DeadlineTimer` may be a drop.
        #[pin]
        timer: Option<Sleep>,
    }
}

impl DeadlineTimer {
    /// The timer is set for the earliest end that was possible when it was set.
    /// Where bytes came since, it goes off too early and is set again: once a
    /// bound, not once a read.
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
