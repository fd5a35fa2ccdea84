//! The program: flags, progress, and the output.

mod flags;
mod junit;
mod schema;

use std::{error::Error, fs, process::ExitCode};

use clap::Parser;
use early_response_probe::{Options, Report, Target, probe, text};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime;

use self::flags::{Flags, Format};

/// A client met a fault, or the status is not the expected one.
const FAULTY: u8 = 1;
/// The server cannot be probed. clap exits with this status, too.
const UNUSABLE: u8 = 2;
/// No response was early, or the volume did not suffice.
const INCONCLUSIVE: u8 = 3;

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let flags = Flags::parse();
    match run(&flags) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(UNUSABLE)
        }
    }
}

fn run(flags: &Flags) -> Result<ExitCode, Box<dyn Error>> {
    if flags.schema {
        println!("{}", schema::text());
        return Ok(ExitCode::SUCCESS);
    }
    let options = flags.options();
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let target = runtime.block_on(Target::new(&flags.url))?;
    if !target.is_loopback() {
        let warning = warning(&target, &options);
        if !flags.yes {
            return Err(format!("{warning} Repeat the command with --yes to do so").into());
        }
        eprintln!("warning: {warning}");
    }
    let bar = bar();
    let report = runtime.block_on(probe(&target, &options, |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(progress.client.name());
    }));
    bar.finish_and_clear();
    let report = report?;
    if let Some(path) = &flags.junit {
        let junit = junit::text(&report)?;
        fs::write(path, junit).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    print!("{}", formatted(&report, flags.format())?);
    Ok(status(&report))
}

/// Returns the report, with a line break at its end.
fn formatted(report: &Report, format: Format) -> serde_json::Result<String> {
    Ok(match format {
        Format::Json => serde_json::to_string_pretty(report)? + "\n",
        Format::Markdown => text::markdown(report),
        Format::Table => text::terminal(report),
    })
}

fn warning(target: &Target, options: &Options) -> String {
    let planned = options.planned_volume().min(options.max_volume);
    format!(
        "{} ({}) is not this machine. The probe sends it up to {}, in uploads that it may count \
         as an attack. Probe only servers that you are responsible for.",
        target.url().host_str().unwrap_or_default(),
        target.addr(),
        text::size(planned),
    )
}

/// Returns a bar on standard error, which is hidden if that is no terminal.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len} uploads, {msg}");
    let bar = ProgressBar::new(1);
    bar.set_style(style.expect("the template is well-formed"));
    bar
}

fn status(report: &Report) -> ExitCode {
    match (report.passed, report.judged && report.complete) {
        (false, _) => ExitCode::from(FAULTY),
        (true, false) => ExitCode::from(INCONCLUSIVE),
        (true, true) => ExitCode::SUCCESS,
    }
}
