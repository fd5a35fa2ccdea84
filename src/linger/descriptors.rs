//! How many descriptors the process may have, and how near it is to that.

use std::sync::OnceLock;

/// Of the places for lingering connections, at most.
const MOST: usize = 1024;

/// What most systems allow at the least, where nobody can be asked.
const CAUTIOUS: u64 = 256;

/// A quarter of the descriptors, but no more than [`MOST`].
pub(super) fn default_at_once() -> usize {
    let quarter = soft_limit() / 4;
    usize::try_from(quarter).unwrap_or(MOST).min(MOST)
}

/// `RLIMIT_NOFILE`, the soft one, when it was first asked for.
pub(super) fn soft_limit() -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    *LIMIT.get_or_init(|| read_limit().unwrap_or(CAUTIOUS))
}

/// Whether a socket's descriptor is in the last eighth: they are given out from the
/// lowest. Of what is no socket of tokio's nobody knows.
pub(super) fn is_near_limit<T: 'static>(socket: &T) -> bool {
    descriptor(socket).is_some_and(is_in_last_eighth)
}

fn is_in_last_eighth(descriptor: u64) -> bool {
    let limit = soft_limit();
    descriptor >= limit - limit / 8
}

/// As for discarding, the type is asked at run time.
#[cfg(unix)]
fn descriptor<T: 'static>(socket: &T) -> Option<u64> {
    use std::{any::Any, os::fd::AsRawFd};

    use tokio::net::{TcpStream, UnixStream};

    let socket: &dyn Any = socket;
    let descriptor = match socket.downcast_ref::<TcpStream>() {
        Some(socket) => socket.as_raw_fd(),
        None => socket.downcast_ref::<UnixStream>()?.as_raw_fd(),
    };
    u64::try_from(descriptor).ok()
}

#[cfg(not(unix))]
fn descriptor<T: 'static>(_: &T) -> Option<u64> {
    None
}

/// From `proc_pid_limits(5)`.
#[cfg(target_os = "linux")]
fn read_limit() -> Option<u64> {
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
fn read_limit() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_the_last_eighth() {
        let limit = soft_limit();
        assert!(limit > 0 && default_at_once() <= MOST);
        assert!(is_in_last_eighth(limit - 1));
        assert!(!is_in_last_eighth(limit / 2));
    }
}
