//! Decides when a lingering close sends its FIN. Bytes go in, a time comes out. No clock, no IO.

use std::time::Duration;

/// The silence that ends the wait if the client has probably sent everything. A segment that was
/// lost at the end of an upload is sent again after two round trips (RFC 8985 §7.2), which is less
/// than this on most paths.
const END_PAUSE: Duration = Duration::from_millis(100);

/// A half-close that waits for the client to finish its upload.
///
/// Some clients abort their upload if they see the server's end of the connection while they send,
/// and do not look at the response then. hyper's client is one of them. The FIN tells a client
/// nothing that the response, with its length and its `Connection: close`, has not told it. So the
/// FIN can wait until the client sends no more.
///
/// The end of the body cannot be seen, because the bytes are discarded unparsed. As many bytes as
/// the request has declared include its head, and beneath TLS the overhead of records, which is
/// 0.13 % for records of 16 KiB. So at that count the body ends soon, and a short silence suffices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HalfCloseHold {
    /// How many bytes are still to come, at most as many as really come. `None` if the request has
    /// not declared it.
    pub(super) remaining: Option<u64>,
}

impl HalfCloseHold {
    /// Returns after how much silence the half-close follows, if `discarded` bytes have come since
    /// the hold began. `is_in_a_hurry` if others need the slot, or the server shuts down.
    pub(super) fn pause(self, discarded: u64, timeout: Duration, is_in_a_hurry: bool) -> Duration {
        let is_near_end = self.remaining.is_some_and(|left| left <= discarded);
        match is_near_end || is_in_a_hurry {
            true => timeout.min(END_PAUSE),
            false => timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    #[test]
    fn declared_body_is_waited_for_until_it_has_come() {
        let hold = HalfCloseHold {
            remaining: Some(1000),
        };
        assert_eq!(hold.pause(999, TIMEOUT, false), TIMEOUT);
        assert_eq!(hold.pause(1000, TIMEOUT, false), END_PAUSE);
        assert_eq!(hold.pause(0, TIMEOUT, true), END_PAUSE);
    }

    #[test]
    fn body_of_unknown_length_has_no_end() {
        let hold = HalfCloseHold { remaining: None };
        assert_eq!(hold.pause(u64::MAX, TIMEOUT, false), TIMEOUT);
        assert_eq!(hold.pause(0, TIMEOUT, true), END_PAUSE);
    }

    #[test]
    fn short_timeout_is_never_exceeded() {
        let timeout = Duration::from_millis(1);
        for remaining in [None, Some(0), Some(1)] {
            let hold = HalfCloseHold { remaining };
            assert_eq!(hold.pause(0, timeout, true), timeout);
            assert_eq!(hold.pause(0, timeout, false), timeout);
        }
    }
}
