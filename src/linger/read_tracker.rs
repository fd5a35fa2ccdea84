//! Whether a connection that closes needs a linger at all.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use crate::shared::connection::Connection;

/// The socket's side of a joined connection.
///
/// A close needs no linger where it is *known* that everything was read:
/// 1. the service saw the end of the latest request,
/// 2. no byte came after the head of that request that could be of another one,
/// 3. the server has asked for more before it answered, and nothing was there.
///    While a request is being answered hyper asks only when its own buffer is
///    empty (`proto/h1/conn.rs`, `mid_message_detect_eof`), so no part of a further
///    request is in there. After the answer it asks for the rest of half a head,
///    too: that says nothing. Nor does it where TLS waits for the rest of a record.
///
/// Whatever is not known lingers.
#[derive(Debug)]
pub(super) struct ReadTracker {
    connection: Arc<Connection>,
    /// The latest read found nothing.
    quiet: bool,
    /// How many requests had begun when bytes came, or may have come, that were of
    /// none of them.
    unclaimed: u64,
    /// The latest write waits for room.
    stalled: bool,
    /// As [`Connection::has_ended_within_tls`].
    has_ended: bool,
    /// Bytes have come since the latest write.
    unanswered: bool,
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
        }
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Nobody will use what the client still sends.
    pub(super) fn is_closing(&self) -> bool {
        self.connection.is_closing()
    }

    /// An answer is held back: what the client's side of the connection says can wait.
    pub(super) fn is_holding(&self) -> bool {
        self.connection.is_holding()
    }

    /// Ready when the socket may be written to.
    pub(super) fn poll_may_write(&self, cx: &Context<'_>) -> Poll<()> {
        self.connection.write_gate().poll_free(cx)
    }

    /// A read has brought bytes; whether the client's end may be among them.
    pub(super) fn came(&mut self, has_ended: bool) {
        if self.has_ended != has_ended {
            self.has_ended = has_ended;
            self.connection.end_within_tls(has_ended);
        }
        self.quiet = false;
        self.unanswered = true;
        if self.connection.is_finished() {
            self.unclaimed = self.connection.begun();
        }
    }

    /// A read has found the client's end. Whether to keep it from hyper for a turn: while an answer
    /// is held back, and once after each read that brought bytes. hyper gives up a client that
    /// closes its side before the answer is there, and looks for that before it asks the service
    /// (`proto/h1/conn.rs`, `mid_message_detect_eof`).
    pub(super) fn defer_end(&mut self) -> bool {
        mem::take(&mut self.unanswered) || self.is_holding()
    }

    /// A read has found nothing, and TLS waits for no part of a record.
    pub(super) fn found_nothing(&mut self) {
        self.quiet = true;
    }

    /// A part of an answer was written; whether it had waited for room.
    pub(super) fn wrote(&mut self) -> bool {
        if !self.quiet {
            self.unclaimed = self.connection.begun();
        }
        self.unanswered = false;
        let waited = self.stalled;
        self.stall(false);
        waited
    }

    /// What is written waits for room, or does not any more.
    pub(super) fn stall(&mut self, stalled: bool) {
        if self.stalled != stalled {
            self.stalled = stalled;
            self.connection.stall(stalled);
        }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Writing is to fail: a drain came to its bound.
    pub(super) fn is_cut(&self) -> bool {
        self.connection.is_cut()
    }

    pub(super) fn all_read(&self) -> bool {
        self.quiet && self.connection.is_finished() && self.connection.begun() != self.unclaimed
    }

    /// Whether the client may have another request on its way, that nobody has told it not
    /// to send.
    pub(super) fn may_be_asked_again(&self) -> bool {
        self.connection.may_be_asked_again()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined() -> (Arc<Connection>, ReadTracker) {
        let connection = Arc::new(Connection::default());
        (Arc::clone(&connection), ReadTracker::new(connection))
    }

    #[test]
    fn a_request_without_a_body_is_read() {
        let (connection, mut tracker) = joined();
        tracker.came(false);
        connection.finish(connection.begin());
        assert!(!tracker.all_read(), "hyper may have more in its buffer");
        tracker.found_nothing();
        assert!(tracker.all_read());
    }

    #[test]
    fn a_body_is_read_when_its_end_was_seen() {
        let (connection, mut tracker) = joined();
        tracker.came(false);
        let request = connection.begin();
        tracker.came(false);
        tracker.found_nothing();
        assert!(!tracker.all_read());
        connection.finish(request);
        assert!(tracker.all_read());
    }

    #[test]
    fn half_a_head_is_not_read() {
        let (connection, mut tracker) = joined();
        tracker.came(false);
        connection.finish(connection.begin());
        tracker.came(false);
        tracker.found_nothing();
        assert!(!tracker.all_read());
        connection.finish(connection.begin());
        tracker.found_nothing();
        assert!(tracker.all_read(), "the head belongs to the second");
    }

    /// In one read with the request before it: hyper has it in its buffer, answers,
    /// and only then asks for the rest.
    #[test]
    fn half_a_head_behind_a_request_is_not_read() {
        let (connection, mut tracker) = joined();
        tracker.came(false);
        connection.finish(connection.begin());
        tracker.wrote();
        tracker.found_nothing();
        assert!(!tracker.all_read());
    }

    #[test]
    fn nothing_is_known_of_what_never_reached_the_service() {
        let (_, mut tracker) = joined();
        tracker.came(false);
        tracker.found_nothing();
        assert!(!tracker.all_read());
    }

    #[test]
    fn a_late_end_says_nothing_of_the_next_request() {
        let (connection, mut tracker) = joined();
        tracker.came(false);
        let first = connection.begin();
        tracker.came(false);
        let second = connection.begin();
        connection.finish(first);
        tracker.found_nothing();
        assert!(!tracker.all_read());
        connection.finish(second);
        assert!(tracker.all_read());
    }
}
