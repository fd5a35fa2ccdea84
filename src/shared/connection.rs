//! The state of one connection that delivery and the socket wrapper share.

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

/// The state that a connection's service and its socket share.
///
/// Invariants:
/// 1. HTTP/1 requests are numbered from 1 in the order in which the service gets them. HTTP/1
///    serves them one after the other. So when a request begins, all requests before it were read
///    to their ends.
/// 2. `finished` is the largest number of a request whose body's end was seen. It never exceeds
///    `begun`.
/// 3. `closing` is never reset. It is set in two cases: before a response with `Connection: close`
///    is handed to the server, and when a request body has failed. In both cases no other request
///    is served on the connection.
/// 4. `cut` is a request's number, and does not concern later requests. hyper may find the end of a
///    body that was dropped, and keep the connection.
/// 5. `holding` is set only while a [`ResponseHold`] lives.
/// 6. `left` is set before `closing`, and never reset.
/// 7. `stalls` is odd while a write is blocked on a full send buffer. It grows with each blocked
///    write and with each write that ends one, so a change proves progress.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    begun: AtomicU64,
    finished: AtomicU64,
    closing: AtomicBool,
    left: AtomicU64,
    client_closes: AtomicBool,
    stalls: AtomicU64,
    /// The drain that waits for `stalls` to change.
    drain: WakerSlot,
    cut: AtomicU64,
    holding: AtomicBool,
    ended_within_tls: AtomicBool,
    gate: WriteGate,
    flow: Flow,
    /// The client whose slots the requests take.
    peer: Peer,
}

/// The request body that the client may still be sending when the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeftBody {
    /// The request has declared this length, in bytes.
    Declared(u64),
    /// The request has not declared a length.
    Unknown,
}

impl LeftBody {
    /// Returns the body of a request that has declared `length`.
    pub(crate) fn of(length: Option<u64>) -> Self {
        length.map_or(Self::Unknown, Self::Declared)
    }

    /// Returns the value that is stored in an atomic, which is never 0. No body is empty.
    fn to_bits(self) -> u64 {
        match self {
            Self::Declared(length) => length.clamp(1, u64::MAX - 1),
            Self::Unknown => u64::MAX,
        }
    }

    fn from_bits(bits: u64) -> Option<Self> {
        match bits {
            0 => None,
            u64::MAX => Some(Self::Unknown),
            length => Some(Self::Declared(length)),
        }
    }
}

impl Connection {
    pub(crate) fn of(peer: Peer) -> Self {
        Self {
            peer: peer.identified(),
            ..Self::default()
        }
    }

    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    /// Returns the gate that makes the parts of an HTTP/2 response leave together.
    #[inline]
    pub(crate) fn write_gate(&self) -> &WriteGate {
        &self.gate
    }

    /// Returns the account of HTTP/2 bodies that the handlers do not read.
    pub(crate) fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Records that a request has come, and returns its number. By invariant 1, no other request
    /// begins at the same time, so a load and a store replace the slower `fetch_add`.
    #[inline]
    pub(crate) fn begin(&self) -> u64 {
        let request = self.begun.load(Ordering::Relaxed) + 1;
        self.begun.store(request, Ordering::Release);
        request
    }

    /// Records that the end of a request's body was seen. If a drain reports this late, after the
    /// next request has come, it has no effect.
    #[inline]
    pub(crate) fn finish(&self, request: u64) {
        self.finished.fetch_max(request, Ordering::AcqRel);
    }

    /// Records that a request without a body has come.
    #[inline]
    pub(crate) fn begin_bodiless(&self) {
        self.finish(self.begin());
    }

    /// Records that the client sends no further request: it asked for `close`, or speaks
    /// HTTP/1.0.
    pub(crate) fn client_closes(&self) {
        self.client_closes.store(true, Ordering::Release);
    }

    /// Returns whether a further request may still come, as far as the client has said.
    pub(crate) fn may_be_asked_again(&self) -> bool {
        !self.client_closes.load(Ordering::Acquire)
    }

    /// Returns how many requests have come.
    #[inline]
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Returns whether the end of the latest request was seen.
    #[inline]
    pub(crate) fn is_finished(&self) -> bool {
        let finished = self.finished.load(Ordering::Acquire);
        let begun = self.begun();
        debug_assert!(finished <= begun, "a request ends after it began");
        finished == begun
    }

    /// Records that the connection closes, because the response says `Connection: close` or the
    /// request body has failed. Nothing will use what the client still sends.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Returns whether the connection [closes](Self::close).
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Records which body the client may still be sending after the response, and that the
    /// connection [closes](Self::close). The response must show by itself where it ends.
    pub(crate) fn close_leaving(&self, left: LeftBody) {
        self.left.store(left.to_bits(), Ordering::Release);
        self.close();
    }

    /// Returns the body that the client may still be sending. `None` if the half-close must not
    /// wait for it.
    pub(crate) fn left(&self) -> Option<LeftBody> {
        LeftBody::from_bits(self.left.load(Ordering::Acquire))
    }

    /// Records whether a write is blocked on a full send buffer. Call this only when that changes.
    pub(crate) fn stall(&self, stalled: bool) {
        let stalls = self.stalls.fetch_add(1, Ordering::AcqRel) + 1;
        debug_assert_eq!(stalls % 2 == 1, stalled, "it is called on a change only");
        self.drain.wake();
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.stalls() % 2 == 1
    }

    /// Returns a number that changes when the response makes progress or is blocked. It is odd
    /// while a write is blocked.
    pub(crate) fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Acquire)
    }

    /// Completes once [`stalls`](Self::stalls) is no longer `known`.
    pub(crate) fn poll_progress(&self, cx: &Context<'_>, known: u64) -> Poll<()> {
        self.drain.poll_until(cx, || self.stalls() != known)
    }

    /// Records whether the bytes that TLS has received may include the client's `close_notify`.
    pub(crate) fn end_within_tls(&self, has_ended: bool) {
        self.ended_within_tls.store(has_ended, Ordering::Release);
    }

    /// Returns whether the client may have closed its side within TLS, which hyper will find with
    /// its next read.
    pub(crate) fn has_ended_within_tls(&self) -> bool {
        self.ended_within_tls.load(Ordering::Acquire)
    }

    /// Returns whether a response is [held back](ResponseHold).
    #[inline]
    pub(crate) fn is_holding(&self) -> bool {
        self.holding.load(Ordering::Acquire)
    }

    /// Cuts the response to a request, because a limit was reached while it is blocked on a full
    /// send buffer. Writes fail from here on.
    pub(crate) fn cut(&self, request: u64) {
        self.cut.fetch_max(request, Ordering::AcqRel);
    }

    /// Returns whether the response to the latest request is [cut](Self::cut).
    pub(crate) fn is_cut(&self) -> bool {
        let cut = self.cut.load(Ordering::Acquire);
        cut != 0 && cut == self.begun()
    }
}

/// An RAII guard that holds a response back while the request body bytes that have arrived are
/// read. hyper drops a connection whose client closes its side before the response is ready.
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

/// An RAII guard that holds the [`WriteGate`] of a connection.
#[derive(Debug)]
pub(crate) struct WriteHold {
    connection: Arc<Connection>,
    since: Instant,
}

impl WriteHold {
    /// Takes the gate. Returns `None` if a task holds it, if nothing was written since the last
    /// hold, or if holds have taken too much time.
    pub(crate) fn hold(connection: &Arc<Connection>, now: Instant) -> Option<Self> {
        connection.gate.hold(now).then(|| Self {
            connection: Arc::clone(connection),
            since: now,
        })
    }

    /// Releases the gate, when the response is complete or late.
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
    async fn gate_is_not_taken_again_before_a_write() {
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

    /// Simulates a connection whose streams are refused at every step. Returns in how many of a
    /// thousand steps it could not write. Each response takes `until` steps.
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
        // Responses that never come, that come after 1 ms, and that come after 200 µs.
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
