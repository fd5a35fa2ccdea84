//! Has the parts of an answer leave together.

use std::{
    sync::{Arc, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
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
/// A response that is not there in time was held for nothing, and so may the next one be. So
/// nobody holds it for [`REST`] after that: other streams of the connection lose a twenty-fifth
/// of their time at most, however many uploads are refused.
///
/// What its holder has done is there when the connection is free to write.
#[derive(Debug, Default)]
pub(crate) struct Cork {
    state: AtomicU8,
    writer: Waiter,
    rests_until: Mutex<Option<Instant>>,
}

/// How long a response is waited for. A service that has it whole gives it to hyper in less.
pub(crate) const HOLD: Duration = Duration::from_millis(2);

const REST: Duration = HOLD.saturating_mul(25);

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

    fn rests_until(&self) -> MutexGuard<'_, Option<Instant>> {
        let rests_until = self.rests_until.lock();
        rests_until.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds the cork of a connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Corked(Arc<Connection>);

impl Corked {
    /// Returns `None` if somebody holds it already or has only just done so, and while it rests.
    pub(crate) fn hold(connection: &Arc<Connection>, now: Instant) -> Option<Self> {
        let cork = connection.cork();
        if cork.rests_until().is_some_and(|until| now < until) {
            return None;
        }
        let held = cork
            .state
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
        held.is_ok().then(|| Self(Arc::clone(connection)))
    }

    /// Lets go: the response is not there in time.
    pub(crate) fn give_up(self, now: Instant) {
        *self.0.cork().rests_until() = now.checked_add(REST);
    }
}

impl Drop for Corked {
    fn drop(&mut self) {
        let cork = self.0.cork();
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

    /// Plays a connection whose streams are refused at every step, and returns how many steps
    /// of a hundred thousand it could not write in. Each response takes `until` steps.
    fn steps_held(step: Duration, until: u32) -> u32 {
        let start = Instant::now();
        let connection = Arc::new(Connection::default());
        let mut holder: Option<(Corked, u32)> = None;
        let mut held = 0;
        for count in 0..100_000 {
            let now = start + step * count;
            holder = match holder.take() {
                Some((_, since)) if count - since >= until => None,
                Some((corked, since)) if step * (count - since) >= HOLD => {
                    corked.give_up(now);
                    None
                }
                holding => holding,
            };
            let cx = Context::from_waker(Waker::noop());
            held += u32::from(connection.cork().poll_free(&cx).is_pending());
            holder = holder.or_else(|| Some((Corked::hold(&connection, now)?, count)));
        }
        held
    }

    #[test]
    fn late_responses_hold_a_connection_for_a_twenty_fifth_of_the_time() {
        let held = steps_held(Duration::from_micros(100), u32::MAX);
        assert!((3_000..=4_000).contains(&held), "{held}");
    }

    #[test]
    fn prompt_responses_are_held_each() {
        // Each response is there at the second step, and can be written in it.
        assert_eq!(steps_held(Duration::from_micros(100), 2), 50_000);
    }
}
