//! The process's limit of file descriptors, and whether it is nearly reached.

use super::socket::descriptor;

/// The maximum of the default for `max_connections`.
const MOST: usize = 1024;

/// The default if the limit is not known: a quarter of the least that most systems allow.
const CAUTIOUS: usize = 64;

/// How many file descriptors are reserved for connections that do not linger. They suffice for the
/// connections that are accepted until an evicted one is dropped.
const RESERVE: u64 = 32;

/// The soft limit at the time of the call to `read`. `None` if it is not known.
#[derive(Clone, Copy, Debug)]
pub(super) struct FdLimit(Option<u64>);

impl FdLimit {
    pub(super) fn read() -> Self {
        Self(soft_limit())
    }

    /// Returns a quarter of the limit, but at most [`MOST`].
    pub(super) fn default_max_connections(self) -> usize {
        let quarter = self.0.map(|limit| limit / 4);
        let quarter = quarter.map(|quarter| usize::try_from(quarter).unwrap_or(MOST));
        quarter.unwrap_or(CAUTIOUS).min(MOST)
    }

    /// Returns whether a socket's file descriptor is in the reserve: the system gives out the
    /// lowest first. Returns `false` if the socket is not one of tokio's, because its file
    /// descriptor is not known.
    pub(super) fn are_scarce_for<T: 'static>(self, socket: &T) -> bool {
        match (self.0, descriptor(socket)) {
            (Some(limit), Some(descriptor)) => is_in_reserve(descriptor, limit),
            _ => false,
        }
    }
}

fn is_in_reserve(descriptor: u64, limit: u64) -> bool {
    descriptor >= limit - RESERVE.min(limit / 8)
}

/// Reads the soft limit (see `proc_pid_limits(5)`).
#[cfg(target_os = "linux")]
fn soft_limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    match line.split_whitespace().nth(3)? {
        "unlimited" => Some(u64::MAX),
        limit => limit.parse().ok(),
    }
}

/// Reads the soft limit (getrlimit(2)). `None` from the system means that there is none.
#[cfg(all(unix, not(target_os = "linux")))]
fn soft_limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit};

    Some(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

/// Sockets are handles on Windows, and a process may have millions of them.
#[cfg(windows)]
fn soft_limit() -> Option<u64> {
    Some(u64::MAX)
}

#[cfg(not(any(unix, windows)))]
fn soft_limit() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_is_32_or_an_eighth_of_few() {
        assert!(is_in_reserve(992, 1024) && !is_in_reserve(991, 1024));
        assert!(is_in_reserve(56, 64) && !is_in_reserve(55, 64));
        assert!(!is_in_reserve(1 << 20, u64::MAX));
    }

    /// Otherwise only 64 connections may linger.
    #[cfg(any(unix, windows))]
    #[test]
    fn limit_of_this_process_is_known() {
        assert!(FdLimit::read().0.is_some());
    }

    #[test]
    fn a_quarter_may_linger() {
        let default = |limit| FdLimit(limit).default_max_connections();
        assert_eq!(default(Some(256)), 64);
        assert_eq!(default(Some(u64::MAX)), MOST);
        assert_eq!(default(None), CAUTIOUS);
    }
}
