//! What the kernel holds for TCP, and what it may.

use std::fs;

const PAGE_KIB: u64 = 4;

/// In KiB, of both ends where both are on this machine.
pub(crate) fn held() -> u64 {
    let sockets = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = sockets.lines().find(|line| line.starts_with("TCP:"));
    let pages = line.and_then(|line| line.split_whitespace().last()?.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_KIB
}

/// Of one socket at most, in KiB.
pub(crate) fn receive_buffer() -> u64 {
    largest("tcp_rmem") / 1024
}

/// Of all sockets, in KiB: from there on the kernel drops what comes.
pub(crate) fn for_all() -> u64 {
    largest("tcp_mem").saturating_mul(PAGE_KIB)
}

/// The last of three figures.
fn largest(name: &str) -> u64 {
    let setting = fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
    let figure = setting.split_whitespace().last();
    figure.and_then(|figure| figure.parse().ok()).unwrap_or(0)
}
