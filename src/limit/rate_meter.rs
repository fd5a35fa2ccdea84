//! The minimum rate of a request body.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{budget::Least, shared::flow};

/// A leaky bucket of time, which is empty when the client is too slow.
///
/// It starts with the grace. Bytes fill it with the time that they may take at the minimum rate.
/// It empties while the handler waits for the client. Its capacity is small, so that a client
/// cannot send fast at first and be silent later.
///
/// The wait ends when bytes arrive, and not when the handler polls for them, so that a slow
/// handler costs the client nothing. Over HTTP/2 the time for which other streams hold the
/// connection's window does not count. If that time is unknown, the bucket does not empty.
#[derive(Debug)]
pub(super) struct RateMeter {
    least: Least,
    left: Duration,
    /// The number of bytes that have filled it.
    counted: u64,
    /// The time at which the current wait for the client began.
    since: Option<Instant>,
    window: Window,
    // Made at the first wait, because there may be no runtime before.
    timer: Option<Pin<Box<Sleep>>>,
    noting: Arc<Noting>,
}

/// The flow-control window of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    /// HTTP/1: the client may always send.
    Own,
    /// HTTP/2: the time for which other streams may have held it, or `None` if unknown.
    Shared(Option<Duration>),
}

/// A waker that records when bytes arrived, and wakes the task that waits for them.
#[derive(Debug, Default)]
struct Noting(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    came: Option<Instant>,
    waker: Option<Waker>,
}

impl Noting {
    /// Locks the record. A panic elsewhere leaves nothing half-done behind this lock.
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

/// The minimum capacity of the bucket. A client that sends in regular bursts may pause for this
/// long between them.
const MIN_CAPACITY: Duration = Duration::from_secs(1);

/// The longest sleep, one year. Adding it to the current time does not overflow.
const MAX_SLEEP: Duration = Duration::from_secs(365 * 24 * 3600);

impl RateMeter {
    pub(super) fn new(least: Least, multiplexed: bool) -> Self {
        Self {
            least,
            left: least.grace,
            counted: 0,
            since: None,
            window: match multiplexed {
                true => Window::Shared(None),
                false => Window::Own,
            },
            timer: None,
            noting: Arc::default(),
        }
    }

    /// Returns the minimum rate, in bytes per second.
    pub(super) fn rate(&self) -> u64 {
        self.least.rate
    }

    /// Polls the body, and charges the client for the time that it took.
    pub(super) fn poll_body<T>(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let (waker, waited) = self.end_wait(cx);
        let cx = &mut Context::from_waker(&waker);
        let Window::Shared(before) = self.window else {
            self.left = self.left.saturating_sub(waited);
            return poll(cx);
        };
        let (polled, unread) = flow::asking(|| poll(cx));
        if let (Some(before), Some(unread)) = (before, unread) {
            let held = unread.saturating_sub(before);
            self.left = self.left.saturating_sub(waited.saturating_sub(held));
        }
        self.window = Window::Shared(unread);
        polled
    }

    /// Returns the waker to poll with, and how long the handler has waited for the client.
    fn end_wait(&mut self, cx: &Context<'_>) -> (Waker, Duration) {
        let mut noted = self.noting.noted();
        let came = noted.came.take();
        noted.waker = Some(cx.waker().clone());
        drop(noted);
        let waited = self.since.take().map_or(Duration::ZERO, |since| {
            came.unwrap_or_else(Instant::now) - since
        });
        (Waker::from(Arc::clone(&self.noting)), waited)
    }

    /// Waits for more than `received` bytes. Ready when the client is too slow.
    pub(super) fn poll_too_slow(&mut self, received: u64, cx: &mut Context<'_>) -> Poll<()> {
        if self.window == Window::Shared(None) {
            return Poll::Pending;
        }
        self.fill(received - self.counted);
        self.counted = received;
        if self.left.is_zero() {
            return Poll::Ready(());
        }
        let now = Instant::now();
        self.since = Some(now);
        let until = now + self.left.min(MAX_SLEEP);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }

    /// Fills the bucket with the time that `bytes` may take.
    fn fill(&mut self, bytes: u64) {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.least.rate.max(1));
        let time = u64::try_from(nanoseconds).map_or(Duration::MAX, Duration::from_nanos);
        let capacity = self.least.grace.max(MIN_CAPACITY);
        self.left = self.left.saturating_add(time).min(capacity);
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

    fn over_http1() -> RateMeter {
        RateMeter::new(LEAST, false)
    }

    fn nothing(_: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn poll_pace(meter: &mut RateMeter, received: u64, cx: &mut Context<'_>) -> Poll<()> {
        assert!(meter.poll_body(cx, nothing).is_pending());
        meter.poll_too_slow(received, cx)
    }

    /// Polls until the client is too slow, while nothing arrives. Returns how long that took.
    async fn too_slow(meter: &mut RateMeter, received: u64) -> Duration {
        let start = Instant::now();
        poll_fn(|cx| poll_pace(meter, received, cx)).await;
        start.elapsed()
    }

    /// Waits for `seconds` after `received` bytes, until the next bytes arrive.
    async fn wait(meter: &mut RateMeter, received: u64, seconds: u64) {
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(poll_pace(meter, received, cx).is_pending());
        sleep(Duration::from_secs(seconds)).await;
        Waker::from(Arc::clone(&meter.noting)).wake();
    }

    #[tokio::test(start_paused = true)]
    async fn silent_client_has_the_grace() {
        let seconds = too_slow(&mut over_http1(), 0).await.as_secs();
        assert_eq!(seconds, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_extend_the_credit_by_their_time() {
        let mut meter = over_http1();
        wait(&mut meter, 0, 4).await;
        let seconds = too_slow(&mut meter, 240 * 2).await.as_secs();
        assert_eq!(seconds, 1 + 2);
    }

    #[tokio::test(start_paused = true)]
    async fn fast_beginning_buys_no_more_than_the_grace() {
        let seconds = too_slow(&mut over_http1(), 4 << 20).await.as_secs();
        assert_eq!(seconds, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn client_at_the_rate_is_never_too_slow() {
        let mut meter = over_http1();
        for second in 0..1000 {
            wait(&mut meter, 240 * second, 1).await;
        }
        assert_eq!(too_slow(&mut meter, 240 * 1000).await.as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn credit_without_a_grace_is_a_second_at_most() {
        let grace = Duration::from_millis(1);
        let mut meter = RateMeter::new(Least { rate: 240, grace }, false);
        assert_eq!(too_slow(&mut meter, 4 << 20).await.as_millis(), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_handler_costs_the_client_nothing() {
        let mut meter = over_http1();
        wait(&mut meter, 0, 4).await;
        // Bytes have arrived, and the handler does not read them for 100 s.
        sleep(Duration::from_secs(100)).await;
        assert_eq!(too_slow(&mut meter, 1).await.as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn client_without_room_in_the_window_is_not_waited_for() {
        let mut meter = RateMeter::new(LEAST, true);
        let cx = &mut Context::from_waker(Waker::noop());
        let start = Instant::now();
        let mut held = Duration::ZERO;
        // Another stream holds the window for 9 of 10 seconds.
        let mut seconds = 0;
        loop {
            let body = |_: &mut Context<'_>| {
                flow::reply(|| held);
                Poll::<()>::Pending
            };
            assert!(meter.poll_body(cx, body).is_pending());
            if meter.poll_too_slow(0, cx).is_ready() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
            seconds += 1;
            if seconds % 10 != 0 {
                held += Duration::from_secs(1);
            }
        }
        assert_eq!(start.elapsed().as_secs(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn no_client_is_too_slow_if_the_window_is_unknown() {
        let mut meter = RateMeter::new(LEAST, true);
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(poll_pace(&mut meter, 0, cx).is_pending());
            sleep(Duration::from_secs(100)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn longest_times_do_not_overflow() {
        let grace = Duration::MAX;
        let mut meter = RateMeter::new(Least { rate: 1, grace }, false);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(poll_pace(&mut meter, u64::MAX, cx).is_pending());
    }
}
