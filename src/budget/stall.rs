//! Decides when to abort a response that makes no progress. Progress and bytes go in, a decision
//! comes out. No clock, no IO.

use std::time::{Duration, Instant};

/// The default time for which a response may make no progress while its client sends.
///
/// The response to a slow reader makes progress in steps. A Linux receiver reopens its window
/// when a sixteenth of its buffer is free (`__tcp_select_window`). That is 384 KiB of the 6 MiB
/// that a buffer may grow to (`tcp_rmem`). A client that reads 2 KB/s takes 197 s for that.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(300);

/// The same time in a shutdown, once the time for drains is over.
pub(crate) const STALL_TIMEOUT_AT_SHUTDOWN: Duration = Duration::from_secs(2);

/// The state of a response blocked on a full send buffer, while bytes of its client are discarded.
///
/// - A client that sends and does not read could keep the server discarding permanently.
/// - With a client that reads, the response makes progress, even if slowly and in steps.
/// - A client that sends nothing costs no more than any slow reader.
///
/// So it is enough to decide when the client sends bytes, and no timer is needed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stall(Option<Heard>);

/// The times at which the client has sent bytes since the last progress of the response.
#[derive(Clone, Copy, Debug)]
struct Heard {
    first: Instant,
    last: Instant,
}

impl Stall {
    /// Records that the response has made progress.
    pub(crate) fn progress(&mut self) {
        self.0 = None;
    }

    /// Records that the client has sent bytes. Returns true if the response should be aborted: the
    /// client has sent for `timeout` while the response made no progress. A silence of half of
    /// `timeout` restarts the count.
    pub(crate) fn heard(&mut self, now: Instant, timeout: Duration) -> bool {
        let still_sends = |heard: &Heard| now.saturating_duration_since(heard.last) < timeout / 2;
        let first = self.0.filter(still_sends).map_or(now, |heard| heard.first);
        self.0 = Some(Heard { first, last: now });
        now.saturating_duration_since(first) >= timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Sends bytes every `every` seconds. Returns the second at which the response is given up.
    fn given_up(every: u64, progress_at: Option<u64>) -> Option<u64> {
        let start = Instant::now();
        let mut stall = Stall::default();
        (0..600).step_by(every as usize).find(|&second| {
            if progress_at.is_some_and(|at| second % at == 0) {
                stall.progress();
            }
            stall.heard(start + Duration::from_secs(second), TIMEOUT)
        })
    }

    #[test]
    fn client_that_only_sends_is_given_up_after_the_timeout() {
        assert_eq!(given_up(1, None), Some(30));
        assert_eq!(given_up(14, None), Some(42));
    }

    #[test]
    fn client_that_reads_is_never_given_up() {
        assert_eq!(given_up(1, Some(29)), None);
    }

    #[test]
    fn client_that_is_silent_for_half_the_timeout_is_not_given_up() {
        assert_eq!(given_up(15, None), None);
    }
}
