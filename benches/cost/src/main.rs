//! Measures the cost of refusals and the small cost of accepted requests. Each run compares ours
//! with others. `cargo run --release` here measures everything and writes `../MEASUREMENTS.md`.

mod accepted;
mod capacity;
mod cores;
mod discard;
mod drained;
mod estimate;
mod growth;
mod latency;
mod line;
mod load;
mod measure;
mod memory;
mod peer;
mod plot;
mod process;
mod refused;
mod refusing;
mod report;
mod servers;
// The registry has no public path.
#[allow(dead_code, reason = "the benchmark uses a part of what it includes")]
#[path = "../../../src/shared/mod.rs"]
mod shared;
mod slots;
mod syscalls;

use clap::{Parser, Subcommand};

use crate::report::{Report, Section};

#[derive(Parser)]
struct Flags {
    /// Measure only these; the other sections of the page stay unchanged
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Fewer and shorter runs, as a test of the benchmark itself; the page stays unchanged
    #[arg(long)]
    quick: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// The role of this program when it starts itself.
#[derive(Subcommand)]
enum Role {
    /// One of the compared servers; prints its address
    #[command(hide = true)]
    Serve { name: String, args: Vec<String> },
    /// One of the clients
    #[command(hide = true)]
    Client { name: String, args: Vec<String> },
}

/// A measurement: its name, and the function that creates its section of the page.
type Measurement = (&'static str, fn(Effort) -> Section);

/// How much work goes into a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    Full,
    Quick,
}

impl Effort {
    /// Returns the value for this effort.
    pub(crate) fn of<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

const MEASUREMENTS: &[Measurement] = &[
    ("accepted", accepted::measure),
    ("refused", refused::measure),
    ("syscalls", syscalls::measure),
    ("latency", latency::measure),
    ("discard", discard::measure),
    ("drained", drained::measure),
    ("memory", memory::measure),
    ("growth", growth::measure),
    ("capacity", capacity::measure),
    ("cores", cores::measure),
    ("slots", slots::measure),
];

fn main() {
    let flags = Flags::parse();
    match flags.role {
        Some(Role::Serve { name, args }) if name.starts_with("refusing-") => {
            return refusing::serve(&name, &args);
        }
        Some(Role::Serve { name, args }) => return servers::serve(&name, &args),
        Some(Role::Client { name, args }) => match name.as_str() {
            "senders" => return latency::senders(&args),
            "awake" => return latency::awake(),
            _ => panic!("there is no client {name}"),
        },
        None => {}
    }
    let effort = match flags.quick {
        true => Effort::Quick,
        false => Effort::Full,
    };
    for name in &flags.only {
        let known = MEASUREMENTS.iter().any(|(known, _)| known == name);
        assert!(known, "there is no measurement {name}");
    }
    let asked = |name: &str| flags.only.is_empty() || flags.only.iter().any(|only| only == name);
    let mut report = Report::read();
    for (name, measure) in MEASUREMENTS {
        if asked(name) {
            eprintln!("{name} …");
            report.add(measure(effort));
        }
    }
    if effort == Effort::Full {
        report.write();
    }
}
