//! The times that a client has for its request body.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    budget::{LateTimer, Least, MAX_WAIT},
    refusal::RefusalKind,
    shared::flow,
};

/// The limits in time of a request body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) least: Option<Least>,
    /// The timeout since the client last sent bytes.
    pub(super) idle_timeout: Option<Duration>,
    /// The timeout since the service was called.
    pub(super) deadline: Option<Duration>,
}

impl Pace {
    /// Returns whether there is any limit.
    #[inline]
    pub(super) fn is_limited(&self) -> bool {
        self.measures_waits() || self.deadline.is_some()
    }

    /// Returns whether the time matters for which the handler waits for the client.
    #[inline]
    fn measures_waits(&self) -> bool {
        self.least.is_some() || self.idle_timeout.is_some()
    }

    fn deadline_from_now(self) -> Option<Instant> {
        Instant::now().checked_add(self.deadline?)
    }
}

/// Measures the time that the handler waits for the client.
///
/// The minimum rate is a leaky bucket of time, which is empty when the client is too slow. It
/// starts with the grace. Bytes fill it with the time that they may take at the minimum rate.
/// It empties while the handler waits for the client. Its capacity is small, so that a client
/// cannot send fast at first and be silent later. The idle timeout is another such bucket, which
/// any byte fills.
///
/// The wait ends when bytes arrive, and not when the handler polls for them, so that a slow
/// handler costs the client nothing. Over HTTP/2 the time for which other streams hold the
/// connection's window does not count. If that time is unknown, the buckets do not empty.
///
/// The deadline passes no matter who waits. The client is too slow when the handler waits for it
/// after that.
#[derive(Debug)]
pub(super) struct PaceMeter {
    pace: Pace,
    /// The time left in the bucket of the minimum rate.
    rate_left: Duration,
    /// The time left until the idle timeout.
    idle_left: Duration,
    /// `None` if there is no deadline, or none that an `Instant` can hold.
    deadline: Option<Instant>,
    /// The number of bytes that have filled the buckets.
    counted: u64,
    /// The time at which the current wait for the client began.
    since: Option<Instant>,
    /// How long the wait was that ended with the current poll.
    waited: Duration,
    /// The query of the current poll over HTTP/2.
    query: Option<flow::Query>,
    window: Window,
    timer: LateTimer,
    /// `None` if only the deadline is limited, which passes no matter who waits.
    wakers: Option<Wakers>,
}

/// The flow-control window of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    /// HTTP/1: the client may always send.
    Own,
    /// HTTP/2: the time for which other streams may have held it, or `None` if unknown.
    Shared(Option<Duration>),
}

/// The wakers of a body.
#[derive(Debug)]
struct Wakers {
    /// The waker to poll the body with.
    body: Waker,
    noting: Arc<Noting>,
}

impl Wakers {
    fn new() -> Self {
        let noting = Arc::<Noting>::default();
        let body = Waker::from(Arc::clone(&noting));
        Self { body, noting }
    }
}

/// A waker that records when bytes arrived, and wakes the task that waits for them.
#[derive(Debug, Default)]
struct Noting(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    came: Option<Instant>,
    task: Option<Waker>,
}

impl Noting {
    /// Locks the record. A panic elsewhere leaves nothing half-done behind this lock.
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Noting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let task = {
            let mut noted = self.noted();
            noted.came.get_or_insert_with(Instant::now);
            noted.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// The minimum capacity of the bucket of the rate. A client that sends in regular bursts may pause for this
/// long between them.
const MIN_CAPACITY: Duration = Duration::from_secs(1);

impl PaceMeter {
    pub(super) fn new(pace: Pace, multiplexed: bool) -> Self {
        Self {
            pace,
            rate_left: pace.least.map_or(Duration::ZERO, |least| least.grace),
            idle_left: pace.idle_timeout.unwrap_or_default(),
            deadline: pace.deadline_from_now(),
            counted: 0,
            since: None,
            waited: Duration::ZERO,
            query: None,
            window: match multiplexed {
                true => Window::Shared(None),
                false => Window::Own,
            },
            timer: LateTimer::default(),
            wakers: pace.measures_waits().then(Wakers::new),
        }
    }

    /// Starts the time of the deadline again.
    pub(super) fn restart_deadline(&mut self) {
        self.deadline = self.pace.deadline_from_now();
    }

    /// Returns the waker to poll the body with. `None` for the task's own.
    pub(super) fn waker(&self) -> Option<&Waker> {
        self.wakers.as_ref().map(|wakers| &wakers.body)
    }

    /// Begins a poll of the body, which [`end_poll`](Self::end_poll) ends.
    pub(super) fn begin_poll(&mut self, cx: &Context<'_>) {
        let Some(Wakers { noting, .. }) = &self.wakers else {
            return;
        };
        let mut noted = noting.noted();
        let came = noted.came.take();
        noted.task = Some(cx.waker().clone());
        drop(noted);
        self.waited = self.since.take().map_or(Duration::ZERO, |since| {
            came.unwrap_or_else(Instant::now) - since
        });
        if let Window::Shared(_) = self.window {
            self.query = Some(flow::Query::ask());
        }
    }

    /// Ends a poll of the body, and charges the client for the time that the handler has waited.
    pub(super) fn end_poll(&mut self) {
        let waited = mem::take(&mut self.waited);
        let Window::Shared(before) = self.window else {
            return self.charge(waited);
        };
        let unread = self.query.take().and_then(flow::Query::reply);
        if let (Some(before), Some(unread)) = (before, unread) {
            let held = unread.saturating_sub(before);
            self.charge(waited.saturating_sub(held));
        }
        self.window = Window::Shared(unread);
    }

    /// Waits for more than `received` bytes. Ready when the client is too slow.
    pub(super) fn poll_too_slow(
        &mut self,
        received: u64,
        cx: &mut Context<'_>,
    ) -> Poll<RefusalKind> {
        self.fill(received - self.counted);
        self.counted = received;
        let now = Instant::now();
        let Some((left, kind)) = self.next_end(now) else {
            return Poll::Pending;
        };
        if left.is_zero() {
            return Poll::Ready(kind);
        }
        self.since = Some(now);
        let until = now + left.min(MAX_WAIT);
        self.timer.poll_until(until, cx).map(|()| kind)
    }

    /// Returns the time until the client is too slow if it sends nothing more, and by which limit.
    fn next_end(&self, now: Instant) -> Option<(Duration, RefusalKind)> {
        let Pace {
            least,
            idle_timeout,
            deadline,
        } = self.pace;
        let rate = least.map(|Least { rate, .. }| (self.rate_left, RefusalKind::TooSlow { rate }));
        let idle =
            idle_timeout.map(|timeout| (self.idle_left, RefusalKind::IdleTimeout { timeout }));
        let late = self.deadline.zip(deadline).map(|(at, deadline)| {
            let left = at.saturating_duration_since(now);
            (left, RefusalKind::DeadlineExceeded { deadline })
        });
        let is_measured = self.window != Window::Shared(None);
        let ends = [
            late,
            rate.filter(|_| is_measured),
            idle.filter(|_| is_measured),
        ];
        ends.into_iter().flatten().min_by_key(|(left, _)| *left)
    }

    /// Takes from the buckets the time that the handler has waited for the client.
    fn charge(&mut self, waited: Duration) {
        self.rate_left = self.rate_left.saturating_sub(waited);
        self.idle_left = self.idle_left.saturating_sub(waited);
    }

    /// Fills the buckets with the time that `bytes` are worth.
    fn fill(&mut self, bytes: u64) {
        if bytes > 0 {
            self.idle_left = self.pace.idle_timeout.unwrap_or_default();
        }
        let Some(least) = self.pace.least else { return };
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(least.rate.max(1));
        let time = u64::try_from(nanoseconds).map_or(Duration::MAX, Duration::from_nanos);
        let capacity = least.grace.max(MIN_CAPACITY);
        self.rate_left = self.rate_left.saturating_add(time).min(capacity);
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

    fn paced(least: Least) -> Pace {
        Pace {
            least: Some(least),
            ..Pace::default()
        }
    }

    fn with_times(idle_timeout: u64, deadline: u64) -> Pace {
        Pace {
            least: None,
            idle_timeout: Some(Duration::from_secs(idle_timeout)),
            deadline: Some(Duration::from_secs(deadline)),
        }
    }

    fn over_http1() -> PaceMeter {
        PaceMeter::new(paced(LEAST), false)
    }

    fn poll_pace(meter: &mut PaceMeter, received: u64, cx: &mut Context<'_>) -> Poll<RefusalKind> {
        meter.begin_poll(cx);
        meter.end_poll();
        meter.poll_too_slow(received, cx)
    }

    /// Polls until the client is too slow, while nothing arrives. Returns how long that took.
    async fn too_slow(meter: &mut PaceMeter, received: u64) -> Duration {
        let start = Instant::now();
        poll_fn(|cx| poll_pace(meter, received, cx)).await;
        start.elapsed()
    }

    /// Waits for `seconds` after `received` bytes, until the next bytes arrive.
    async fn wait(meter: &mut PaceMeter, received: u64, seconds: u64) {
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(poll_pace(meter, received, cx).is_pending());
        sleep(Duration::from_secs(seconds)).await;
        meter.waker().expect("it measures waits").wake_by_ref();
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
        let mut meter = PaceMeter::new(paced(Least { rate: 240, grace }), false);
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
        let mut meter = PaceMeter::new(paced(LEAST), true);
        let cx = &mut Context::from_waker(Waker::noop());
        let start = Instant::now();
        let mut held = Duration::ZERO;
        // Another stream holds the window for 9 of 10 seconds.
        let mut seconds = 0;
        loop {
            meter.begin_poll(cx);
            flow::reply(|| held);
            meter.end_poll();
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
        let mut meter = PaceMeter::new(paced(LEAST), true);
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(poll_pace(&mut meter, 0, cx).is_pending());
            sleep(Duration::from_secs(100)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn idle_timeout_starts_again_with_each_byte() {
        let mut meter = PaceMeter::new(with_times(30, 1000), false);
        for byte in 0..10 {
            wait(&mut meter, byte, 29).await;
        }
        let start = Instant::now();
        let kind = poll_fn(|cx| poll_pace(&mut meter, 10, cx)).await;
        let timeout = Duration::from_secs(30);
        assert_eq!(kind, RefusalKind::IdleTimeout { timeout });
        assert_eq!(start.elapsed(), timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_ends_a_body_that_is_never_idle() {
        let start = Instant::now();
        let mut meter = PaceMeter::new(with_times(30, 100), false);
        for byte in 0..9 {
            wait(&mut meter, byte, 11).await;
        }
        let kind = poll_fn(|cx| poll_pace(&mut meter, 9, cx)).await;
        let deadline = Duration::from_secs(100);
        assert_eq!(kind, RefusalKind::DeadlineExceeded { deadline });
        assert_eq!(start.elapsed(), deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_deadline_applies_if_the_window_is_unknown() {
        let mut meter = PaceMeter::new(with_times(30, 100), true);
        let kind = poll_fn(|cx| poll_pace(&mut meter, 0, cx)).await;
        let deadline = Duration::from_secs(100);
        assert_eq!(kind, RefusalKind::DeadlineExceeded { deadline });
    }

    #[tokio::test(start_paused = true)]
    async fn longest_times_do_not_overflow() {
        let grace = Duration::MAX;
        let pace = Pace {
            least: Some(Least { rate: 1, grace }),
            idle_timeout: Some(Duration::MAX),
            deadline: Some(Duration::MAX),
        };
        let mut meter = PaceMeter::new(pace, false);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(poll_pace(&mut meter, u64::MAX, cx).is_pending());
    }
}
