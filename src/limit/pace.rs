//! How fast a body comes.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use crate::bounds::Least;

/// The time that a client is waited for, and what it has sent in it. Time in which the
/// handler does not ask for more is not the client's.
#[derive(Debug)]
pub(super) struct Pace {
    least: Least,
    waited: Duration,
    /// Since when the client is being waited for.
    since: Option<Instant>,
    // Made when there is something to wait for: there may be no runtime before.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    pub(super) fn new(least: Least) -> Self {
        Self {
            least,
            waited: Duration::ZERO,
            since: None,
            timer: None,
        }
    }

    /// In bytes per second.
    pub(super) fn rate(&self) -> u64 {
        self.least.rate
    }

    /// Something has come, or the end.
    pub(super) fn came(&mut self) {
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Nothing has come beyond `received` bytes. Ready when that is too slow.
    pub(super) fn poll_too_slow(&mut self, received: u64, cx: &mut Context<'_>) -> Poll<()> {
        let enough = self.enough_for(received);
        loop {
            let now = Instant::now();
            let since = *self.since.get_or_insert(now);
            let left = enough.saturating_sub(self.waited + (now - since));
            if left.is_zero() {
                return Poll::Ready(());
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(left)));
            if timer.deadline() != now + left {
                timer.as_mut().reset(now + left);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// How long so many bytes may take.
    fn enough_for(&self, received: u64) -> Duration {
        let nanoseconds = u128::from(received) * 1_000_000_000 / u128::from(self.least.rate.max(1));
        let time = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        time.max(self.least.grace)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const LEAST: Least = Least {
        rate: 240,
        grace: Duration::from_secs(5),
    };

    async fn too_slow(pace: &mut Pace, received: u64) -> Duration {
        let start = Instant::now();
        poll_fn(|cx| pace.poll_too_slow(received, cx)).await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_grace_comes_first() {
        let seconds = too_slow(&mut Pace::new(LEAST), 0).await.as_secs();
        assert_eq!(seconds, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn then_what_has_come_counts() {
        let seconds = too_slow(&mut Pace::new(LEAST), 240 * 7).await.as_secs();
        assert_eq!(seconds, 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_handler_is_not_the_clients_fault() {
        let mut pace = Pace::new(LEAST);
        let wait = poll_fn(|cx| pace.poll_too_slow(0, cx));
        tokio::time::timeout(Duration::from_secs(4), wait)
            .await
            .unwrap_err();
        pace.came();
        // The handler takes its time.
        sleep(Duration::from_secs(100)).await;
        assert_eq!(too_slow(&mut pace, 1).await.as_secs(), 1);
    }
}
