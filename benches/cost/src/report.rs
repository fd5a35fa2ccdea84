//! The page that a run writes.

use std::{fmt, fs, path::Path};

use crate::{estimate::Estimate, process};

/// The measurements of one run.
pub(crate) struct Report {
    machine: String,
    sections: Vec<Section>,
}

/// The section of one measurement.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// The method, in a sentence or two.
    pub(crate) how: String,
    pub(crate) head: &'static [&'static str],
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) targets: Vec<Target>,
    /// Missing peers, and other remarks.
    pub(crate) notes: Vec<String>,
    /// Plots: a file name, a caption, and the SVG.
    pub(crate) plots: Vec<Plot>,
}

pub(crate) struct Plot {
    pub(crate) file: &'static str,
    pub(crate) shows: &'static str,
    pub(crate) svg: String,
}

/// A required value of a figure.
pub(crate) struct Target {
    what: String,
    most: f64,
    seen: Seen,
}

enum Seen {
    Figure(f64),
    Estimate(Estimate),
}

impl Target {
    pub(crate) fn at_most(most: f64, what: impl Into<String>, seen: f64) -> Self {
        Self {
            what: what.into(),
            most,
            seen: Seen::Figure(seen),
        }
    }

    /// Creates a target that is met if the whole interval is below the limit, missed if it is
    /// above, and open otherwise.
    pub(crate) fn estimated(most: f64, what: impl Into<String>, seen: Estimate) -> Self {
        Self {
            what: what.into(),
            most,
            seen: Seen::Estimate(seen),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, most, seen } = self;
        let (low, high) = match seen {
            Seen::Figure(seen) => (*seen, *seen),
            Seen::Estimate(seen) => (seen.low, seen.high),
        };
        let verdict = match (low, high) {
            (_, high) if high <= *most => "met",
            (low, _) if low > *most => "**missed**",
            _ => "open: the interval contains the limit",
        };
        match seen {
            Seen::Figure(seen) => write!(f, "| {what} | ≤ {most} | {seen:.3} | {verdict} |"),
            Seen::Estimate(seen) => write!(f, "| {what} | ≤ {most} | {seen} | {verdict} |"),
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n\n{}\n", self.title, self.how)?;
        if !self.rows.is_empty() {
            writeln!(f, "| {} |", self.head.join(" | "))?;
            writeln!(f, "|{}", " --- |".repeat(self.head.len()))?;
            for row in &self.rows {
                writeln!(f, "| {} |", row.join(" | "))?;
            }
            writeln!(f)?;
        }
        for Plot { file, shows, .. } in &self.plots {
            writeln!(f, "![{shows}](plots/{file})\n")?;
        }
        if !self.targets.is_empty() {
            writeln!(
                f,
                "| target | limit | measured | |\n| --- | --- | --- | --- |"
            )?;
            for target in &self.targets {
                writeln!(f, "{target}")?;
            }
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "- {note}")?;
        }
        Ok(())
    }
}

impl Report {
    pub(crate) fn begin() -> Self {
        Self {
            machine: process::machine(),
            sections: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, section: Section) {
        eprintln!("{section}");
        self.sections.push(section);
    }

    /// Writes the page to `benches/`, beside this package.
    pub(crate) fn write(&self) {
        let benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let plots = benches.join("plots");
        fs::create_dir_all(&plots).expect("a folder for the plots");
        for plot in self.sections.iter().flat_map(|section| &section.plots) {
            fs::write(plots.join(plot.file), &plot.svg).expect("a plot is written");
        }
        fs::write(benches.join("MEASUREMENTS.md"), self.to_string()).expect("the page is written");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Measurements\n\n\
             [README.md](README.md) has the figures for users. This page is written by \
             `cargo run --release --manifest-path benches/cost/Cargo.toml`, which measures \
             each figure beside what it is compared with, in one run. \
             Look at the ratios: the absolute figures are those of this machine, \
             {}.\n",
            self.machine
        )?;
        for section in &self.sections {
            writeln!(f, "{section}")?;
        }
        Ok(())
    }
}
