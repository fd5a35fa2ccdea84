//! The memory that the kernel holds for TCP, and its limits.

use std::fs;

const PAGE_KIB: u64 = 4;

/// Returns KiB, of both ends if both are on this machine.
pub(crate) fn held() -> u64 {
    let sockets = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = sockets.lines().find(|line| line.starts_with("TCP:"));
    let pages = line.and_then(|line| line.split_whitespace().last()?.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_KIB
}

/// Returns the maximum of one socket, in KiB.
pub(crate) fn receive_buffer() -> u64 {
    largest("tcp_rmem") / 1024
}

/// Returns the maximum of all sockets, in KiB. Above that, the kernel drops incoming data.
pub(crate) fn for_all() -> u64 {
    largest("tcp_mem").saturating_mul(PAGE_KIB)
}

/// Returns the last of three figures.
fn largest(name: &str) -> u64 {
    let setting = fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
    let figure = setting.split_whitespace().last();
    figure.and_then(|figure| figure.parse().ok()).unwrap_or(0)
}
