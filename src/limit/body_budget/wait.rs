use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use crate::budget::{LateTimer, MAX_WAIT};

/// The time until which a body waits for room.
#[derive(Debug)]
pub(in crate::limit) struct Wait {
    until: Instant,
    timer: LateTimer,
}

impl Wait {
    pub(in crate::limit) fn new(timeout: Duration) -> Self {
        Self {
            until: Instant::now() + timeout.min(MAX_WAIT),
            timer: LateTimer::default(),
        }
    }

    /// Ready when the time is over.
    pub(in crate::limit) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.poll_until(self.until, cx)
    }
}
