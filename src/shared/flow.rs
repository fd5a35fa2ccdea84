//! Whether the client of an HTTP/2 connection may send.
//!
//! All streams of a connection share one window. A handler that does not read its request body
//! leaves data in it, and the clients of the other streams may have to wait for room: that time
//! is not theirs. Delivery knows the bodies of a connection; the limit layer knows which body
//! has a rate to keep. Neither knows the other, and there may be any number of layers between
//! them that box the body. But they poll it on one thread, from within each other: so the limit
//! layer leaves its question in a thread-local, and finds the response there after the poll.

use std::{
    cell::Cell,
    sync::PoisonError,
    time::{Duration, Instant},
};

use super::sync::{Mutex, MutexGuard};

/// The account of one connection: for how long one of its bodies was unread.
///
/// Invariants:
/// 1. `unread` is the number of bodies that are neither waited for nor at their end.
/// 2. `since` is set if and only if `unread` is not 0 and the clock was asked for. Before
///    that, nobody pays for reading it.
#[derive(Debug, Default)]
pub(crate) struct Flow(Mutex<Account>);

#[derive(Debug, Default)]
struct Account {
    unread: usize,
    is_asked: bool,
    since: Option<Instant>,
    total: Duration,
}

impl Flow {
    /// A body has come, or a frame of it was handed to the handler.
    pub(crate) fn hold(&self, now: impl FnOnce() -> Instant) {
        let mut account = self.lock();
        account.unread += 1;
        if account.is_asked && account.unread == 1 {
            account.since = Some(now());
        }
    }

    /// A body is waited for, has ended, or was dropped.
    pub(crate) fn release(&self, now: impl FnOnce() -> Instant) {
        let mut account = self.lock();
        account.unread -= 1;
        if account.unread > 0 {
            return;
        }
        if let Some(since) = account.since.take() {
            account.total += now().saturating_duration_since(since);
        }
    }

    /// Returns for how long a body was unread, counted from the first call on.
    pub(crate) fn unread(&self, now: Instant) -> Duration {
        let mut account = self.lock();
        if !account.is_asked {
            account.is_asked = true;
            account.since = (account.unread > 0).then_some(now);
        }
        let since = account.since;
        let current = since.map(|since| now.saturating_duration_since(since));
        account.total + current.unwrap_or_default()
    }

    /// Bodies are dropped while unwinding, and no panic leaves the account half-done.
    fn lock(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands in the thread-local.
#[derive(Clone, Copy)]
enum Word {
    Nothing,
    Question,
    Unread(Duration),
}

thread_local! {
    static WORD: Cell<Word> = const { Cell::new(Word::Nothing) };
}

/// Polls a body, and asks for how long bodies of its connection were unread. Returns `None` if
/// nobody beneath knows the connection. Cheap: it neither locks nor allocates.
pub(crate) fn asking<T>(poll: impl FnOnce() -> T) -> (T, Option<Duration>) {
    /// Takes the question back, even if the poll panics.
    struct Asked(Word);
    impl Drop for Asked {
        fn drop(&mut self) {
            // A limit layer outside of this one asks the same.
            if !matches!(self.0, Word::Question) {
                WORD.set(Word::Nothing);
            }
        }
    }
    let _asked = Asked(WORD.replace(Word::Question));
    let polled = poll();
    let unread = match WORD.get() {
        Word::Unread(unread) => Some(unread),
        Word::Nothing | Word::Question => None,
    };
    (polled, unread)
}

/// Answers the question, if one was asked.
pub(crate) fn answer(unread: impl FnOnce() -> Duration) {
    if let Word::Question = WORD.get() {
        WORD.set(Word::Unread(unread()));
    }
}

#[cfg(all(test, not(bodyguard_loom)))]
mod tests {
    use super::*;

    #[test]
    fn unread_time_counts_from_the_first_question() {
        let flow = Flow::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        flow.hold(|| panic!("nobody has asked"));
        assert_eq!(flow.unread(at(5)), Duration::ZERO);
        assert_eq!(flow.unread(at(7)), Duration::from_secs(2));
        flow.hold(|| panic!("one holds already"));
        flow.release(|| panic!("one holds still"));
        flow.release(|| at(8));
        assert_eq!(flow.unread(at(20)), Duration::from_secs(3));
        flow.hold(|| at(30));
        assert_eq!(flow.unread(at(31)), Duration::from_secs(4));
    }

    #[test]
    fn question_without_an_answer_finds_none() {
        assert_eq!(asking(|| 1), (1, None));
        answer(|| panic!("nobody asks"));
    }

    #[test]
    fn nested_questions_find_the_same_answer() {
        let unread = Duration::from_secs(3);
        let nested = asking(|| asking(|| answer(|| unread)));
        assert_eq!(nested, (((), Some(unread)), Some(unread)));
        answer(|| panic!("nobody asks any more"));
    }
}
