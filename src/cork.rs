//! Has the parts of an answer leave together.

use std::{
    sync::{Arc, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::{
    connection::Connection,
    sync::{AtomicU8, Mutex, MutexGuard, Ordering},
    waiter::Waiter,
};

/// Keeps a connection of HTTP/2 from writing while somebody holds it.
///
/// curl 7.88 ends its stream at once when it reads the head of an error, short of the
/// length that it declared. h2 answers that with a reset (RFC 9113 §8.1.1), and throws
/// away what it has not written of the answer. So the head does not leave alone.
///
/// One holds it at a time, and after that nobody before the connection has been free to
/// write: however many streams are refused, it waits no longer than one holds it. The
/// answers of the others leave with that one's, most often.
///
/// All holds together take a twenty-fifth of a connection's time at most, but for a first
/// [`BURST`]: other streams have the rest, however many uploads are refused and however slow
/// their responses are.
///
/// What its holder has done is there when the connection is free to write.
#[derive(Debug, Default)]
pub(crate) struct Cork {
    state: AtomicU8,
    writer: Waiter,
    spent: Mutex<Spent>,
}

/// The time that holds have taken, as far as it has not been made up for: a twenty-fifth of what
/// has passed since.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    time: Duration,
    at: Option<Instant>,
}

impl Spent {
    fn left(&self, now: Instant) -> Duration {
        let passed = self.at.map(|at| now.saturating_duration_since(at));
        self.time.saturating_sub(passed.unwrap_or_default() / 25)
    }

    fn spend(&mut self, time: Duration, now: Instant) {
        self.time = self.left(now).saturating_add(time);
        self.at = Some(now);
    }
}

/// How long a response is waited for. A service that has it whole gives it to hyper in less.
pub(crate) const HOLD: Duration = Duration::from_millis(2);

/// Two holds to their end.
const BURST: Duration = Duration::from_millis(4);

const FREE: u8 = 0;
const HELD: u8 = 1;
/// It was held, and nothing has been written since.
const SPENT: u8 = 2;

impl Cork {
    /// Ready while nobody holds it.
    pub(crate) fn poll_free(&self, cx: &Context<'_>) -> Poll<()> {
        self.writer.poll_until(cx, || self.is_free())
    }

    /// Who asks is about to write.
    fn is_free(&self) -> bool {
        match self.state.load(Ordering::Acquire) {
            HELD => false,
            SPENT => {
                self.state.store(FREE, Ordering::Release);
                true
            }
            _ => true,
        }
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds the cork of a connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Corked {
    connection: Arc<Connection>,
    since: Instant,
}

impl Corked {
    /// Returns `None` if somebody holds it already or has only just done so, and if holds have
    /// taken too much time.
    pub(crate) fn hold(connection: &Arc<Connection>, now: Instant) -> Option<Self> {
        let cork = connection.cork();
        if cork.spent().left(now) >= BURST {
            return None;
        }
        let held = cork
            .state
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
        held.is_ok().then(|| Self {
            connection: Arc::clone(connection),
            since: now,
        })
    }

    /// Lets go: the response is there, or is not there in time.
    pub(crate) fn release(self, now: Instant) {
        let time = now.saturating_duration_since(self.since);
        self.connection.cork().spent().spend(time, now);
    }
}

impl Drop for Corked {
    fn drop(&mut self) {
        let cork = self.connection.cork();
        cork.state.store(SPENT, Ordering::Release);
        cork.writer.wake();
    }
}

#[cfg(all(test, not(bodyguard_loom)))]
mod tests {
    use std::{future::poll_fn, pin::pin, task::Waker};

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn nobody_follows_before_something_was_written() {
        let now = Instant::now();
        let connection = Arc::new(Connection::default());
        let held = Corked::hold(&connection, now).unwrap();
        assert!(Corked::hold(&connection, now).is_none());
        let mut free = pin!(poll_fn(|cx| connection.cork().poll_free(cx)));
        assert!(free.as_mut().now_or_never().is_none());
        let freed = tokio::join!(free, async {
            drop(held);
            assert!(Corked::hold(&connection, now).is_none());
        });
        assert_eq!(freed, ((), ()));
        assert!(Corked::hold(&connection, now).is_some());
    }

    /// Plays a connection whose streams are refused at every step, and returns how many of a
    /// thousand steps it could not write in. Each response takes `until` steps.
    fn steps_held(step: Duration, until: u32) -> u32 {
        let start = Instant::now();
        let connection = Arc::new(Connection::default());
        let mut holder: Option<(Corked, u32)> = None;
        let mut held = 0;
        for count in 0..100_000 {
            let now = start + step * count;
            let is_over = |since| count - since >= until || step * (count - since) >= HOLD;
            if let Some((corked, _)) = holder.take_if(|(_, since)| is_over(*since)) {
                corked.release(now);
            }
            let cx = Context::from_waker(Waker::noop());
            held += u32::from(connection.cork().poll_free(&cx).is_pending());
            holder = holder.or_else(|| Some((Corked::hold(&connection, now)?, count)));
        }
        held / 100
    }

    #[test]
    fn holds_take_a_twenty_fifth_of_the_time() {
        // Responses that never come, come after 1 ms, and after 200 µs.
        for until in [u32::MAX, 10, 2] {
            let held = steps_held(Duration::from_micros(100), until);
            assert!((20..=42).contains(&held), "{held} of 1000");
        }
    }

    #[test]
    fn prompt_responses_are_held_each() {
        let start = Instant::now();
        let connection = Arc::new(Connection::default());
        for refusal in 0..10_000 {
            let now = start + Duration::from_micros(500) * refusal;
            let corked = Corked::hold(&connection, now).expect("there is time");
            corked.release(now + Duration::from_micros(15));
            let cx = Context::from_waker(Waker::noop());
            assert!(connection.cork().poll_free(&cx).is_ready());
        }
    }
}
