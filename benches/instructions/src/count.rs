//! Counts with callgrind.

use std::{
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use clap::ValueEnum;

use crate::Subject;

/// The instructions of one request.
#[derive(Clone, Debug)]
pub(crate) struct Count {
    pub(crate) name: String,
    pub(crate) is_compared: bool,
    pub(crate) instructions: u64,
}

/// Returns an error that says what is missing.
pub(crate) fn find_valgrind() -> Result<(), String> {
    let mut valgrind = Command::new("valgrind");
    let status = valgrind.arg("--version").stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("valgrind does not run: {status}")),
        Err(error) => Err(format!("valgrind does not run, install it: {error}")),
    }
}

/// Counts each subject, as many at a time as there are cores.
pub(crate) fn count_all(subjects: &[Subject]) -> Vec<Count> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut counts = Vec::new();
        while let Some(subject) = subjects.get(next.fetch_add(1, Ordering::Relaxed)) {
            counts.push((subject.name(), count(subject)));
        }
        counts
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let counts: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let counts = workers.into_iter().map(|worker| worker.join());
        counts
            .flat_map(|counts| counts.expect("no panic"))
            .collect()
    });
    let in_order = subjects.iter().map(|subject| {
        let name = subject.name();
        let (_, instructions) = counts.iter().find(|(counted, _)| *counted == name).unwrap();
        Count {
            name,
            is_compared: subject.is_compared,
            instructions: *instructions,
        }
    });
    in_order.collect()
}

/// Counts a short and a long run. Their difference has no part in the start and the end of the
/// program.
fn count(subject: &Subject) -> u64 {
    let [few, many] = subject.times;
    let difference = run(subject, many) - run(subject, few);
    difference / (many - few) as u64
}

/// Keeps glibc from copying with `rep movsb`, which callgrind counts as one instruction per byte.
/// When the buffer of a connection grows, glibc copies it only if the memory behind it is in use.
const COPIES: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.cpu.x86_rep_movsb_threshold=1000000000",
);

fn run(subject: &Subject, times: usize) -> u64 {
    let place = subject.place.to_possible_value().expect("none is skipped");
    let own = std::env::current_exe().expect("a running program has a path");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args(["subject", place.get_name(), subject.request, subject.server])
        .arg(times.to_string())
        .env(COPIES.0, COPIES.1)
        .output()
        .expect("valgrind runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}", subject.name());
    // As in `==31== Collected : 4711`.
    let count = text
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, count) = count.unwrap_or_else(|| panic!("{}: no count in {text}", subject.name()));
    count.trim().parse().expect("a number")
}
