//! How fast a body comes.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::bounds::Least;

/// The time that a client is waited for, and what it has sent in it. It ends when
/// something comes, and not when the handler looks: what that does meanwhile is not the
/// client's fault.
#[derive(Debug)]
pub(super) struct Pace {
    least: Least,
    waited: Duration,
    /// Since when the client is being waited for.
    since: Option<Instant>,
    // Made when there is something to wait for: there may be no runtime before.
    timer: Option<Pin<Box<Sleep>>>,
    noting: Arc<Noting>,
}

/// Notes when something came, and wakes whoever waits for it.
#[derive(Debug, Default)]
struct Noting(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    came: Option<Instant>,
    waker: Option<Waker>,
}

impl Noting {
    /// A panic elsewhere leaves nothing half-done behind this lock.
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Noting {
    fn wake(self: Arc<Self>) {
        let waker = {
            let mut noted = self.noted();
            noted.came.get_or_insert_with(Instant::now);
            noted.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Beyond this nobody waits, and times can still be reckoned with.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Pace {
    pub(super) fn new(least: Least) -> Self {
        Self {
            least,
            waited: Duration::ZERO,
            since: None,
            timer: None,
            noting: Arc::default(),
        }
    }

    /// In bytes per second.
    pub(super) fn rate(&self) -> u64 {
        self.least.rate
    }

    /// The body is asked for more; the waker to ask with.
    pub(super) fn ask(&mut self, cx: &Context<'_>) -> Waker {
        let mut noted = self.noting.noted();
        let came = noted.came.take();
        noted.waker = Some(cx.waker().clone());
        drop(noted);
        if let Some(since) = self.since.take() {
            self.waited += came.unwrap_or_else(Instant::now) - since;
        }
        Waker::from(Arc::clone(&self.noting))
    }

    /// Nothing has come beyond `received` bytes. Ready when that is too slow.
    pub(super) fn poll_too_slow(&mut self, received: u64, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        self.since = Some(now);
        let left = self.enough_for(received).saturating_sub(self.waited);
        if left.is_zero() {
            return Poll::Ready(());
        }
        let until = now + left.min(FOR_EVER);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }

    /// How long so many bytes may take.
    fn enough_for(&self, received: u64) -> Duration {
        let nanoseconds = (u128::from(received) * 1_000_000_000)
            .checked_div(u128::from(self.least.rate))
            .and_then(|nanoseconds| u64::try_from(nanoseconds).ok());
        let time = nanoseconds.map_or(Duration::MAX, Duration::from_nanos);
        time.max(self.least.grace)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::sleep;

    use super::*;

    const LEAST: Least = Least {
        rate: 240,
        grace: Duration::from_secs(5),
    };

    /// Asks again and again, as a handler does; nothing comes.
    async fn too_slow(pace: &mut Pace, received: u64) -> Duration {
        let start = Instant::now();
        poll_fn(|cx| {
            let _ = pace.ask(cx);
            pace.poll_too_slow(received, cx)
        })
        .await;
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
        let cx = &mut Context::from_waker(Waker::noop());
        let waker = pace.ask(cx);
        assert!(pace.poll_too_slow(0, cx).is_pending());
        sleep(Duration::from_secs(4)).await;
        waker.wake();
        // Something has come, and the handler takes its time.
        sleep(Duration::from_secs(100)).await;
        assert_eq!(too_slow(&mut pace, 1).await.as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn times_beyond_reckoning_do_no_harm() {
        for (rate, grace) in [(1, Duration::MAX), (0, Duration::ZERO)] {
            let mut pace = Pace::new(Least { rate, grace });
            let cx = &mut Context::from_waker(Waker::noop());
            let _ = pace.ask(cx);
            assert!(pace.poll_too_slow(u64::MAX, cx).is_pending());
        }
    }
}
