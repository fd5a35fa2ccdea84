use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// The time until which a body waits for room.
#[derive(Debug)]
pub(in crate::limit) struct Wait {
    until: Instant,
    // Made at the first poll, because there may be no runtime before.
    timer: Option<Pin<Box<Sleep>>>,
}

/// A wait that does not overflow an `Instant`: one year.
const MAX_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

impl Wait {
    pub(in crate::limit) fn new(timeout: Duration) -> Self {
        Self {
            until: Instant::now() + timeout.min(MAX_WAIT),
            timer: None,
        }
    }

    /// Ready when the time is over.
    pub(in crate::limit) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        timer.as_mut().poll(cx)
    }
}
