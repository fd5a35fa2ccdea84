//! How many descriptors the process may have, and how near it is to that.

use super::socket::descriptor;

/// Of the places for lingering connections, at most.
const MOST: usize = 1024;

/// A quarter of what most systems allow at the least, where nobody can be asked.
const CAUTIOUS: usize = 64;

/// So many descriptors are kept for connections that do not linger: enough for those that are
/// accepted until an evicted one is dropped.
const RESERVE: u64 = 32;

/// The soft limit, as it was when it was read; `None` where nobody can be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct FdLimit(Option<u64>);

impl FdLimit {
    pub(super) fn read() -> Self {
        Self(soft_limit())
    }

    /// A quarter of them, but no more than [`MOST`].
    pub(super) fn default_max_connections(self) -> usize {
        let quarter = self.0.map(|limit| limit / 4);
        let quarter = quarter.map(|quarter| usize::try_from(quarter).unwrap_or(MOST));
        quarter.unwrap_or(CAUTIOUS).min(MOST)
    }

    /// Whether a socket's descriptor is in the reserve: they are given out from the lowest. Of
    /// what is no socket of tokio's nobody knows.
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

/// From `proc_pid_limits(5)`.
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

#[cfg(not(target_os = "linux"))]
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

    #[test]
    fn a_quarter_may_linger() {
        let default = |limit| FdLimit(limit).default_max_connections();
        assert_eq!(default(Some(256)), 64);
        assert_eq!(default(Some(u64::MAX)), MOST);
        assert_eq!(default(None), CAUTIOUS);
    }
}
