//! The system calls of a request, counted by `strace`.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    Effort,
    accepted::{self, LIMIT},
    load::{CLIENTS, Clients, Load},
    process::{Cores, on_core, take_turns},
    refused::{SMALL_LIMIT, of_2_kib, of_20_mb},
    report::Section,
    servers::{Around, Server},
};

pub(crate) fn measure(effort: Effort) -> Section {
    let each = effort.of(64, 4);
    let mut rows = Vec::new();
    let mut add = |name: &str, around: &[Around], limit: u64, load: &dyn Fn(Around) -> Load| {
        for around in around {
            let cores = Cores::shared();
            let server = Server::axum(*around, limit, cores);
            take_turns(Some(&server.process));
            let load = load(*around);
            let counted = on_core(cores.map(|cores| cores.load), || {
                take_turns(None);
                count(&server, &load, each)
            });
            let Some(counts) = counted else {
                return;
            };
            let total: f64 = counts.values().sum();
            let mut names: Vec<_> = counts
                .iter()
                .filter(|(_, count)| **count >= 0.05)
                .map(|(name, count)| format!("{name} {count:.1}"))
                .collect();
            names.sort();
            rows.push(vec![
                name.to_owned(),
                around.in_words().to_owned(),
                format!("{total:.2}"),
                names.join(", "),
            ]);
        }
    };
    let all = [Around::Nothing, Around::Combined, Around::TowerHttp];
    for (name, load) in accepted::loads() {
        add(name, &all, LIMIT, &|_| load.clone());
    }
    let limits = [Around::Combined, Around::TowerHttp];
    add("refused, 20 MB, a connection each", &limits, LIMIT, &|_| {
        of_20_mb("/")
    });
    // The app alone has no limit. Its handler responds with 413.
    let path = |around: Around| match around {
        Around::Nothing => "/refused",
        _ => "/",
    };
    add("refused, 2 KiB, kept", &all, SMALL_LIMIT, &|around| {
        of_2_kib(path(around))
    });
    let notes = match rows.is_empty() {
        true => vec![
            "`strace` is not installed, or not allowed here, so there are no counts.".to_owned(),
        ],
        false => vec![],
    };
    Section {
        title: "System calls",
        how: format!(
            "The system calls of the server's process per request, which `strace --summary-only` \
             counts over {} requests. {CLIENTS} clients send before one of them reads. Calls below \
             0.05 for each request are in the sum only.",
            each * CLIENTS
        ),
        head: &["request", "around the app", "calls", "of these"],
        rows,
        targets: Vec::new(),
        notes,
        plots: Vec::new(),
    }
}

/// Returns the number of each system call per request. Returns `None` if `strace` is not installed,
/// or may not attach to the server.
fn count(server: &Server, load: &Load, each: usize) -> Option<BTreeMap<String, f64>> {
    let mut clients = Clients::new(load, server.addr);
    clients.ask(2);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let summary = folder.path().join("summary");
    let mut strace = Command::new("strace");
    strace.args(["--follow-forks", "--summary-only"]);
    strace.arg("--output").arg(&summary);
    strace.args(["--attach", &server.process.id().to_string()]);
    let mut strace = strace.stderr(Stdio::piped()).spawn().ok()?;
    let stderr = strace.stderr.take().expect("it is piped");
    let mut lines = BufReader::new(stderr).lines();
    let line = lines.next()?.expect("in text");
    if !line.contains("attached") {
        return None;
    }

    let tally = clients.ask(each);
    assert_eq!(tally.lost, 0, "no response is lost");
    let id = Pid::from_raw(
        strace
            .id()
            .try_into()
            .expect("Linux counts them in an `i32`"),
    );
    kill(id, Signal::SIGINT).expect("strace is running");
    // It writes the summary when it has detached from the server.
    lines.for_each(drop);
    strace.wait().expect("it is a child of this process");

    let text = fs::read_to_string(summary).expect("strace wrote it");
    let rows = text
        .lines()
        .skip(2)
        .take_while(|line| !line.starts_with('-'));
    let counts = rows.map(|row| {
        // Share of the time, seconds, microseconds of a call, calls, errors if any, name.
        let columns: Vec<_> = row.split_whitespace().collect();
        let calls: f64 = columns[3].parse().expect("a number of calls");
        let name = columns.last().expect("a name");
        ((*name).to_owned(), calls / tally.answered as f64)
    });
    Some(counts.collect())
}
