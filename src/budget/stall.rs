//! When a response that makes no progress is given up: progress and bytes in, a verdict out.
//! No clock, no IO.

use std::time::{Duration, Instant};

/// How long a response may make no progress while its client sends, unless a
/// [`Linger`](crate::Linger) says otherwise.
///
/// The progress of a slow reader comes in steps. A receiver of Linux's opens its window again when
/// a sixteenth of its buffer is free (`__tcp_select_window`), and that is 384 KiB of the 6 MiB that
/// a buffer may grow to (`tcp_rmem`). A client that reads 2 KB/s takes 197 s for it.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(300);

/// The same once a shutdown has no more time for drains.
pub(crate) const STALL_TIMEOUT_AT_SHUTDOWN: Duration = Duration::from_secs(2);

/// A response that waits for room in the socket, while what its client sends is discarded.
///
/// A client that sends and does not read could have us discard for as long as it likes. One
/// that reads makes progress, if slowly and in steps. One that is silent only reads slowly, and
/// costs what any slow reader does. So the verdict comes with bytes of the client's, and needs no
/// timer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stall(Option<Heard>);

/// The client has sent something, and the response has made no progress since.
#[derive(Clone, Copy, Debug)]
struct Heard {
    first: Instant,
    last: Instant,
}

impl Stall {
    /// The response has made progress.
    pub(crate) fn progress(&mut self) {
        self.0 = None;
    }

    /// The client has sent something. Returns whether that is to end: it has sent for
    /// `timeout`, and was never silent for half of it.
    pub(crate) fn heard(&mut self, now: Instant, timeout: Duration) -> bool {
        let sends_on = |heard: &Heard| now.saturating_duration_since(heard.last) < timeout / 2;
        let first = self.0.filter(sends_on).map_or(now, |heard| heard.first);
        self.0 = Some(Heard { first, last: now });
        now.saturating_duration_since(first) >= timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Bytes every so many seconds: when it is given up.
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
