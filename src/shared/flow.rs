//! Measures for how long the client of an HTTP/2 connection may have been unable to send.
//!
//! All streams of a connection share one flow-control window. A handler that does not read its
//! request body leaves data in the window. The clients of the other streams may then have to wait
//! for room, and that time must not count against their rate.
//!
//! Delivery knows the bodies of a connection, and the limit layer knows which body has to keep a
//! rate. Neither knows the other, and any number of layers between them may box the body. But the
//! limit layer polls the body through delivery's body, on one thread. So the limit layer leaves its
//! query in a thread-local, and finds the reply there after the poll.

use std::{
    cell::Cell,
    sync::PoisonError,
    time::{Duration, Instant},
};

use super::sync::{Mutex, MutexGuard};

/// An account of how long one connection has had an unread body.
///
/// Invariants:
/// 1. `unread` is the number of bodies that have not ended and that no handler waits for.
/// 2. `since` is set if and only if `unread` is not 0 and the clock was queried. Before the first
///    query, the clock is never read.
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
    /// Records that a body has come, or that a frame of it was handed to the handler.
    pub(crate) fn hold(&self, now: impl FnOnce() -> Instant) {
        let mut account = self.lock();
        account.unread += 1;
        if account.is_asked && account.unread == 1 {
            account.since = Some(now());
        }
    }

    /// Records that a handler waits for a body, or that the body has ended or was dropped.
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

    /// Returns for how long a body was unread, counted from the first call.
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

    /// Locks the account, and ignores poisoning. Bodies are dropped while unwinding, and no panic
    /// leaves the account half-updated.
    fn lock(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The content of the thread-local.
#[derive(Clone, Copy, Debug)]
enum Word {
    Nothing,
    Question,
    Unread(Duration),
}

thread_local! {
    static WORD: Cell<Word> = const { Cell::new(Word::Nothing) };
}

/// A query for how long bodies of a connection were unread. Ask before a body is polled, and take
/// the reply afterwards, on the same thread. This is cheap: it neither locks nor allocates.
///
/// If the poll panics, the query stays until the next one. It changes no later reply.
#[derive(Debug)]
pub(crate) struct Query {
    /// An outer limit layer has the same query.
    is_nested: bool,
}

impl Query {
    pub(crate) fn ask() -> Self {
        let is_nested = matches!(WORD.replace(Word::Question), Word::Question);
        Self { is_nested }
    }

    /// Takes the reply. Returns `None` if no inner body knows the connection.
    pub(crate) fn reply(self) -> Option<Duration> {
        let word = match self.is_nested {
            true => WORD.get(),
            false => WORD.replace(Word::Nothing),
        };
        match word {
            Word::Unread(unread) => Some(unread),
            Word::Nothing | Word::Question => None,
        }
    }
}

/// Stores the reply to a query, if there is one.
pub(crate) fn reply(unread: impl FnOnce() -> Duration) {
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
    fn question_without_a_response_finds_none() {
        assert_eq!(Query::ask().reply(), None);
        reply(|| panic!("there is no query"));
    }

    #[test]
    fn nested_questions_find_the_same_response() {
        let unread = Duration::from_secs(3);
        let outer = Query::ask();
        let inner = Query::ask();
        reply(|| unread);
        assert_eq!(inner.reply(), Some(unread));
        assert_eq!(outer.reply(), Some(unread));
        reply(|| panic!("there is no query left"));
    }
}
