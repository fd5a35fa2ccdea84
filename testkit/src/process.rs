//! Reads from `/proc` what a process uses, on Linux.

use std::{fs, io};

/// Returns the number of open file descriptors.
pub fn descriptors(pid: u32) -> io::Result<usize> {
    fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count)
}

/// Returns the CPU time in user mode and in the kernel, in ticks of 10 ms.
pub fn cpu(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The process name, in brackets, may contain spaces.
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    Ok(ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum())
}

/// Returns the resident memory, in KiB.
pub fn memory(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
