//! This program again, as a server or a client, and what such a process takes.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A process that ends with its handle.
pub(crate) struct Process(Child);

impl Process {
    /// This program in the role of a server, once it has said where it listens, in its
    /// first line. On one core of its own where `core` says so.
    pub(crate) fn serve(name: &str, args: &[&str], core: Option<usize>) -> (Self, SocketAddr) {
        let own = std::env::current_exe().expect("a running program has a path");
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(own);
                command
            }
            None => Command::new(own),
        };
        command.args(["serve", name]).args(args);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let stdout = child.stdout.take().expect("it is piped");
        let line = BufReader::new(stdout).lines().next();
        let line = line.expect("it says where it listens").expect("in text");
        (Self(child), line.parse().expect("an address"))
    }

    pub(crate) fn of(child: Child) -> Self {
        Self(child)
    }

    /// CPU time of all its threads, those that ended not among them.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id()))
            .into_iter()
            .flatten();
        let nanoseconds = tasks.flatten().filter_map(|task| {
            let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
            times.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a running process has memory") * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processor, cores and kernel.
pub(crate) fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = model.unwrap_or_else(|| "an unknown processor".to_owned());
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}
