//! Counts the instructions of one request with callgrind, in process and over loopback, and
//! compares them with the counts in `baselines/`. Unlike times, counts repeat on a busy machine.
//!
//! callgrind counts what the program executes, and not what the kernel does for it.

mod baseline;
mod count;
mod in_process;
mod served;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    baseline::Baseline,
    count::{Count, count_all, find_valgrind},
};

/// How often a count above the baseline is taken again. Counts on kept connections vary by a few in
/// a thousand, and could vary by more, because the kernel decides when bytes arrive.
const RECOUNTS: usize = 2;

#[derive(Parser)]
struct Flags {
    /// Count only the rows whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Make the counts the baseline of this compiler
    #[arg(long, conflicts_with = "only")]
    write: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Runs under callgrind
    #[command(hide = true)]
    Subject {
        place: Place,
        request: String,
        server: String,
        times: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Place {
    InProcess,
    Served,
}

/// A kind of request, and the server or service that gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Subject {
    place: Place,
    request: &'static str,
    server: &'static str,
    /// Whether this is compared with the baseline. Servers without the crate only stand beside, and
    /// so do new connections, whose counts vary by 5 % from run to run.
    is_compared: bool,
    /// The numbers of requests of the two runs.
    times: [usize; 2],
}

impl Subject {
    /// Returns the name that the baselines have.
    fn name(&self) -> String {
        let place = match self.place {
            Place::InProcess => "in process",
            Place::Served => "served",
        };
        format!("{place}: {}: {}", self.request, self.server)
    }
}

fn subjects() -> Vec<Subject> {
    let in_process = in_process::REQUESTS.iter().flat_map(|request| {
        in_process::SERVERS.iter().map(|server| Subject {
            place: Place::InProcess,
            request: request.name,
            server,
            is_compared: in_process::OURS.contains(server),
            times: [500, 1500],
        })
    });
    let served = served::REQUESTS.iter().flat_map(|request| {
        served::SERVERS.iter().map(|server| Subject {
            place: Place::Served,
            request: request.name,
            server,
            is_compared: served::OURS.contains(server) && !request.is_alone,
            times: [100, 500],
        })
    });
    in_process.chain(served).collect()
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    if let Some(Role::Subject {
        place,
        request,
        server,
        times,
    }) = flags.role
    {
        match place {
            Place::InProcess => in_process::run(&request, &server, times),
            Place::Served => served::run(&request, &server, times),
        }
        return ExitCode::SUCCESS;
    }
    if let Err(reason) = find_valgrind() {
        println!("SKIPPED: {reason}");
        return match std::env::var_os("CI") {
            Some(_) => ExitCode::FAILURE,
            None => ExitCode::SUCCESS,
        };
    }
    let mut subjects = subjects();
    subjects.retain(|subject| subject.name().contains(&flags.only));
    let baseline = Baseline::of_this_compiler();
    let mut counts = count_all(&subjects);
    if flags.write {
        baseline.write(&counts);
        return ExitCode::SUCCESS;
    }
    for (subject, count) in subjects.iter().zip(&mut counts) {
        for _ in 0..RECOUNTS {
            if baseline.row(count).is_more() {
                let again = count_all(&[*subject]);
                count.instructions = count.instructions.min(again[0].instructions);
            }
        }
    }
    report(&counts, &baseline)
}

/// Prints the counts beside the baseline.
fn report(counts: &[Count], baseline: &Baseline) -> ExitCode {
    let more = counts.iter().filter(|count| {
        let row = baseline.row(count);
        println!("{row}");
        row.is_more()
    });
    match more.count() {
        _ if !baseline.is_known() => {
            println!(
                "SKIPPED: nothing was compared, because there is no {}. {}",
                baseline.path().display(),
                baseline::HOW_TO_WRITE
            );
            ExitCode::SUCCESS
        }
        0 => ExitCode::SUCCESS,
        more => {
            println!(
                "{more} of {} counts are more than {} % above the baseline {}. If that is on \
                 purpose: {}",
                counts.len(),
                baseline::TOLERANCE * 100.0,
                baseline.path().display(),
                baseline::HOW_TO_WRITE
            );
            ExitCode::FAILURE
        }
    }
}
