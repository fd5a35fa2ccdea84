//! What delivery and the hook tell each other of one connection.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use super::{
    flow::Flow,
    peer::Peer,
    sync::{AtomicBool, AtomicU64, Ordering},
    waker_slot::WakerSlot,
    write_gate::WriteGate,
};

/// Shared by a connection's service and its socket.
///
/// Invariants:
/// 1. Requests of HTTP/1 are numbered from 1 as the service gets them. HTTP/1 serves them
///    one after the other, so one that begins proves that those before it were
///    read to their ends.
/// 2. `finished` is the largest number of which the end of the body was seen. It
///    never passes `begun`.
/// 3. `closing` is never taken back, and set only before an answer that says
///    `Connection: close` is handed to the server: so that no other request is
///    served on the connection.
/// 4. `cut` is a request's number, and says nothing of those after it: hyper may
///    find the end of a body that was let go of, and keep the connection.
/// 5. `holding` is set only while a [`ResponseHold`] lives.
/// 6. `stalls` is odd while a write waits for room in the socket. It grows with each stall
///    and with each write that ends one, so that a change proves progress.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    begun: AtomicU64,
    finished: AtomicU64,
    closing: AtomicBool,
    client_closes: AtomicBool,
    stalls: AtomicU64,
    /// The drain that waits for `stalls` to change.
    drain: WakerSlot,
    cut: AtomicU64,
    holding: AtomicBool,
    ended_within_tls: AtomicBool,
    gate: WriteGate,
    flow: Flow,
    /// Whose slots its requests take.
    peer: Peer,
}

impl Connection {
    pub(crate) fn of(peer: Peer) -> Self {
        Self {
            peer,
            ..Self::default()
        }
    }

    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    /// Of HTTP/2: the answers' parts leave together.
    pub(crate) fn write_gate(&self) -> &WriteGate {
        &self.gate
    }

    /// Returns the account of the bodies of HTTP/2 that nobody reads.
    pub(crate) fn flow(&self) -> &Flow {
        &self.flow
    }

    /// A request has come; its number.
    pub(crate) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The end of a request's body was seen. A drain may say so late, when the
    /// next request is there already: then it says nothing.
    pub(crate) fn finish(&self, request: u64) {
        self.finished.fetch_max(request, Ordering::AcqRel);
    }

    /// A request has come whose body is at its end.
    pub(crate) fn begin_bodiless(&self) {
        self.finish(self.begin());
    }

    /// Records that the client sends no further request: it asked for `close`, or speaks
    /// HTTP/1.0.
    pub(crate) fn client_closes(&self) {
        self.client_closes.store(true, Ordering::Release);
    }

    /// Whether a further request may still come, as far as the client has said.
    pub(crate) fn may_be_asked_again(&self) -> bool {
        !self.client_closes.load(Ordering::Acquire)
    }

    /// How many requests have come.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether the end of the latest request was seen.
    pub(crate) fn is_finished(&self) -> bool {
        let finished = self.finished.load(Ordering::Acquire);
        let begun = self.begun();
        debug_assert!(finished <= begun, "a request ends after it began");
        finished == begun
    }

    /// The answer says that the connection closes: nothing of what the client still
    /// sends will be used.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether the connection [closes](Self::close).
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Records whether a write waits for room in the socket. Call it only when that changes.
    pub(crate) fn stall(&self, stalled: bool) {
        let stalls = self.stalls.fetch_add(1, Ordering::AcqRel) + 1;
        debug_assert_eq!(stalls % 2 == 1, stalled, "it is called on a change only");
        self.drain.wake();
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.stalls() % 2 == 1
    }

    /// A number that changes when the response makes progress; odd while it is stalled.
    pub(crate) fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Acquire)
    }

    /// Ready once [`stalls`](Self::stalls) is no longer `known`.
    pub(crate) fn poll_progress(&self, cx: &Context<'_>, known: u64) -> Poll<()> {
        self.drain.poll_until(cx, || self.stalls() != known)
    }

    /// Records whether the client may have closed its side within TLS, as far as what TLS has goes.
    pub(crate) fn end_within_tls(&self, has_ended: bool) {
        self.ended_within_tls.store(has_ended, Ordering::Release);
    }

    /// Whether the client may have closed its side, and hyper finds that with its next read.
    pub(crate) fn has_ended_within_tls(&self) -> bool {
        self.ended_within_tls.load(Ordering::Acquire)
    }

    /// Whether an answer is [held back](ResponseHold).
    pub(crate) fn is_holding(&self) -> bool {
        self.holding.load(Ordering::Acquire)
    }

    /// A bound is reached while the answer to a request is still stalled: writing it
    /// fails from here on.
    pub(crate) fn cut(&self, request: u64) {
        self.cut.fetch_max(request, Ordering::AcqRel);
    }

    /// Whether the answer to the latest request is [cut](Self::cut).
    pub(crate) fn is_cut(&self) -> bool {
        let cut = self.cut.load(Ordering::Acquire);
        cut != 0 && cut == self.begun()
    }
}

/// Holds an answer back, for what has come of its request's body already: hyper gives up a
/// connection whose client closes its side before the answer is there.
#[derive(Debug)]
pub(crate) struct ResponseHold(Arc<Connection>);

impl ResponseHold {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        connection.holding.store(true, Ordering::Release);
        Self(connection)
    }
}

impl Drop for ResponseHold {
    fn drop(&mut self) {
        self.0.holding.store(false, Ordering::Release);
    }
}

/// Holds the [`WriteGate`] of a connection until it is dropped.
#[derive(Debug)]
pub(crate) struct WriteHold {
    connection: Arc<Connection>,
    since: Instant,
}

impl WriteHold {
    /// Takes the gate. Returns `None` if a task holds it, if nothing was written since the last
    /// hold, and if holds have taken too much time.
    pub(crate) fn hold(connection: &Arc<Connection>, now: Instant) -> Option<Self> {
        connection.gate.hold(now).then(|| Self {
            connection: Arc::clone(connection),
            since: now,
        })
    }

    /// Releases the gate: the response is there, or is late.
    pub(crate) fn release(self, now: Instant) {
        let time = now.saturating_duration_since(self.since);
        self.connection.gate.spend(time, now);
    }
}

impl Drop for WriteHold {
    fn drop(&mut self) {
        self.connection.gate.release();
    }
}

#[cfg(all(test, not(bodyguard_loom)))]
mod tests {
    use std::{future::poll_fn, pin::pin, task::Waker, time::Duration};

    use futures_util::FutureExt;

    use super::*;
    use crate::shared::write_gate::HOLD;

    #[test]
    fn a_hold_ends_with_who_holds() {
        let connection = Arc::new(Connection::default());
        let held = ResponseHold::new(Arc::clone(&connection));
        assert!(connection.is_holding());
        drop(held);
        assert!(!connection.is_holding());
    }

    #[test]
    fn a_cut_ends_with_its_request() {
        let connection = Connection::default();
        assert!(!connection.is_cut());
        let first = connection.begin();
        connection.cut(first);
        assert!(connection.is_cut());
        connection.begin();
        assert!(!connection.is_cut());
    }

    #[tokio::test]
    async fn nobody_follows_before_something_was_written() {
        let now = Instant::now();
        let connection = Arc::new(Connection::default());
        let held = WriteHold::hold(&connection, now).unwrap();
        assert!(WriteHold::hold(&connection, now).is_none());
        let mut free = pin!(poll_fn(|cx| connection.write_gate().poll_free(cx)));
        assert!(free.as_mut().now_or_never().is_none());
        let freed = tokio::join!(free, async {
            drop(held);
            assert!(WriteHold::hold(&connection, now).is_none());
        });
        assert_eq!(freed, ((), ()));
        assert!(WriteHold::hold(&connection, now).is_some());
    }

    /// Plays a connection whose streams are refused at every step, and returns how many of a
    /// thousand steps it could not write in. Each response takes `until` steps.
    fn steps_held(step: Duration, until: u32) -> u32 {
        let start = Instant::now();
        let connection = Arc::new(Connection::default());
        let mut holder: Option<(WriteHold, u32)> = None;
        let mut held = 0;
        for count in 0..100_000 {
            let now = start + step * count;
            let is_over = |since| count - since >= until || step * (count - since) >= HOLD;
            if let Some((hold, _)) = holder.take_if(|(_, since)| is_over(*since)) {
                hold.release(now);
            }
            let cx = Context::from_waker(Waker::noop());
            held += u32::from(connection.write_gate().poll_free(&cx).is_pending());
            holder = holder.or_else(|| Some((WriteHold::hold(&connection, now)?, count)));
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
            let hold = WriteHold::hold(&connection, now).expect("there is time");
            hold.release(now + Duration::from_micros(15));
            let cx = Context::from_waker(Waker::noop());
            assert!(connection.write_gate().poll_free(&cx).is_ready());
        }
    }
}
