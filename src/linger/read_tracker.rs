//! Tracks whether a connection that closes needs to linger at all.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use super::half_close::HalfCloseHold;
use crate::shared::connection::{Connection, LeftBody};

/// The socket's side of a combined connection.
///
/// A close needs no linger if it is *known* that everything was read:
/// 1. The service has met the end of the latest request.
/// 2. After the head of that request, no byte came that could belong to another request.
/// 3. The server has tried to read more before it responded, and found nothing. While a request is
///    being handled, hyper reads only when its own buffer is empty (`proto/h1/conn.rs`,
///    `mid_message_detect_eof`). So the buffer holds no part of a further request. After the
///    response, hyper also reads for the missing part of half a head, so a read then proves
///    nothing. Nor does a read while TLS waits for the remaining part of a record.
///
/// In all other cases the connection lingers.
#[derive(Debug)]
pub(super) struct ReadTracker {
    connection: Arc<Connection>,
    /// Whether the latest read found nothing.
    quiet: bool,
    /// How many requests had begun when the latest bytes came, or may have come, that belong to
    /// none of them.
    unclaimed: u64,
    /// Whether the latest write is blocked on a full send buffer.
    stalled: bool,
    /// The same as [`Connection::has_ended_within_tls`].
    has_ended: bool,
    /// Whether bytes have come since the latest write.
    unanswered: bool,
    /// The number of the request whose bytes `received` counts, from the beginning of its head.
    counted: u64,
    received: u64,
}

impl ReadTracker {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            quiet: false,
            unclaimed: 0,
            stalled: false,
            has_ended: false,
            unanswered: false,
            counted: 0,
            received: 0,
        }
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Returns whether the connection closes after the response, so that nothing will use what the
    /// client still sends.
    pub(super) fn is_closing(&self) -> bool {
        self.connection.is_closing()
    }

    /// Returns whether a response is held back. The client's end of the connection is not passed on
    /// meanwhile.
    #[inline]
    pub(super) fn is_holding(&self) -> bool {
        self.connection.is_holding()
    }

    /// Completes when the socket may be written to.
    #[inline]
    pub(super) fn poll_may_write(&self, cx: &Context<'_>) -> Poll<()> {
        self.connection.write_gate().poll_free(cx)
    }

    /// Records that a read has brought `bytes` bytes, and whether the client's `close_notify` may be
    /// among them.
    #[inline]
    pub(super) fn came(&mut self, bytes: usize, has_ended: bool) {
        if self.has_ended != has_ended {
            self.has_ended = has_ended;
            self.connection.end_within_tls(has_ended);
        }
        self.quiet = false;
        self.unanswered = true;
        if self.connection.is_finished() {
            self.unclaimed = self.connection.begun();
            let next = self.unclaimed + 1;
            if self.counted != next {
                self.counted = next;
                self.received = 0;
            }
        }
        self.received = self.received.saturating_add(bytes as u64);
    }

    /// Returns for what the half-close waits, if it waits at all.
    pub(super) fn half_close_hold(&self) -> Option<HalfCloseHold> {
        let remaining = match self.connection.left()? {
            LeftBody::Declared(length) if self.counted == self.connection.begun() => {
                Some(length.saturating_sub(self.received))
            }
            // The request came in the same read as the one before it.
            LeftBody::Declared(_) | LeftBody::Unknown => None,
        };
        Some(HalfCloseHold { remaining })
    }

    /// Records that a read has found the client's end. Returns whether to keep it from hyper for
    /// one poll: while a response is held back, and once after each read that brought bytes. hyper
    /// drops a connection whose client closes its side before the response is ready. It checks that
    /// before it polls the service (`proto/h1/conn.rs`, `mid_message_detect_eof`).
    pub(super) fn defer_end(&mut self) -> bool {
        mem::take(&mut self.unanswered) || self.is_holding()
    }

    /// Records that a read has found nothing, and that TLS waits for no part of a record.
    #[inline]
    pub(super) fn found_nothing(&mut self) {
        self.quiet = true;
    }

    /// Records that a part of a response was written. Returns whether the write had been blocked.
    #[inline]
    pub(super) fn wrote(&mut self) -> bool {
        if !self.quiet {
            self.unclaimed = self.connection.begun();
        }
        self.unanswered = false;
        let waited = self.stalled;
        self.stall(false);
        waited
    }

    /// Records whether a write is blocked on a full send buffer.
    #[inline]
    pub(super) fn stall(&mut self, stalled: bool) {
        if self.stalled != stalled {
            self.stalled = stalled;
            self.connection.stall(stalled);
        }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Returns whether writes have to fail, because a drain has reached its limit.
    pub(super) fn is_cut(&self) -> bool {
        self.connection.is_cut()
    }

    pub(super) fn all_read(&self) -> bool {
        self.quiet && self.connection.is_finished() && self.connection.begun() != self.unclaimed
    }

    /// Returns whether the client may have sent another request. It has not if it asked for `close`
    /// or speaks HTTP/1.0.
    pub(super) fn may_be_asked_again(&self) -> bool {
        self.connection.may_be_asked_again()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn combined() -> (Arc<Connection>, ReadTracker) {
        let connection = Arc::new(Connection::default());
        (Arc::clone(&connection), ReadTracker::new(connection))
    }

    #[test]
    fn a_request_without_a_body_is_read() {
        let (connection, mut tracker) = combined();
        tracker.came(1, false);
        connection.finish(connection.begin());
        assert!(!tracker.all_read(), "hyper may have more in its buffer");
        tracker.found_nothing();
        assert!(tracker.all_read());
    }

    #[test]
    fn a_body_is_read_when_its_end_was_seen() {
        let (connection, mut tracker) = combined();
        tracker.came(1, false);
        let request = connection.begin();
        tracker.came(1, false);
        tracker.found_nothing();
        assert!(!tracker.all_read());
        connection.finish(request);
        assert!(tracker.all_read());
    }

    #[test]
    fn half_close_waits_for_what_has_not_come() {
        let (connection, mut tracker) = combined();
        tracker.came(70, false);
        connection.begin_bodiless();
        tracker.came(80, false);
        let request = connection.begin();
        tracker.came(20, false);
        assert_eq!(tracker.half_close_hold(), None, "no response says close");
        connection.close_leaving(LeftBody::Declared(1000));
        let remaining = |remaining| Some(HalfCloseHold { remaining });
        // Only the bytes of this request count.
        assert_eq!(tracker.half_close_hold(), remaining(Some(900)));
        tracker.came(2000, false);
        assert_eq!(tracker.half_close_hold(), remaining(Some(0)));
        assert!(connection.is_closing() && request == 2);
    }

    #[test]
    fn half_close_waits_for_a_pause_if_the_length_is_unknown() {
        let (connection, mut tracker) = combined();
        tracker.came(100, false);
        connection.begin();
        connection.close_leaving(LeftBody::Unknown);
        let unknown = Some(HalfCloseHold { remaining: None });
        assert_eq!(tracker.half_close_hold(), unknown);

        // The second request came in the same read as the first.
        let (connection, mut tracker) = combined();
        tracker.came(100, false);
        connection.begin_bodiless();
        connection.begin();
        connection.close_leaving(LeftBody::Declared(1000));
        assert_eq!(tracker.half_close_hold(), unknown);
    }

    #[test]
    fn half_a_head_is_not_read() {
        let (connection, mut tracker) = combined();
        tracker.came(1, false);
        connection.finish(connection.begin());
        tracker.came(1, false);
        tracker.found_nothing();
        assert!(!tracker.all_read());
        connection.finish(connection.begin());
        tracker.found_nothing();
        assert!(tracker.all_read(), "the head belongs to the second");
    }

    /// The client has sent a request and, in the same segment, half of the next head. hyper has both
    /// in its buffer. It responds to the first, and only then reads the missing half.
    #[test]
    fn half_a_head_behind_a_request_is_not_read() {
        let (connection, mut tracker) = combined();
        tracker.came(1, false);
        connection.finish(connection.begin());
        tracker.wrote();
        tracker.found_nothing();
        assert!(!tracker.all_read());
    }

    #[test]
    fn nothing_is_known_of_what_never_reached_the_service() {
        let (_, mut tracker) = combined();
        tracker.came(1, false);
        tracker.found_nothing();
        assert!(!tracker.all_read());
    }

    #[test]
    fn a_late_end_says_nothing_of_the_next_request() {
        let (connection, mut tracker) = combined();
        tracker.came(1, false);
        let first = connection.begin();
        tracker.came(1, false);
        let second = connection.begin();
        connection.finish(first);
        tracker.found_nothing();
        assert!(!tracker.all_read());
        connection.finish(second);
        assert!(tracker.all_read());
    }
}
