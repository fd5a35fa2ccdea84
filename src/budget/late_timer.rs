//! A timer that can wait for different times.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// The longest wait, one year. Adding it to the current time does not overflow.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// A timer that is made at its first poll, because there may be no runtime before.
#[derive(Debug, Default)]
pub(crate) struct LateTimer(Option<Pin<Box<Sleep>>>);

impl LateTimer {
    /// Completes at `until`, which may differ from poll to poll.
    pub(crate) fn poll_until(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }
}
