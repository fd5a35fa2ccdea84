//! The page that a run writes.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use crate::{estimate::Estimate, process};

/// The page, with the measurements of this run and of earlier ones.
pub(crate) struct Report {
    machine: String,
    /// The text of each section, from its heading on.
    sections: Vec<String>,
    plots: Vec<Plot>,
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
    /// Reads the page of earlier runs.
    pub(crate) fn read() -> Self {
        let page = fs::read_to_string(benches().join(PAGE)).unwrap_or_default();
        let sections = page.split("\n## ").skip(1);
        Self {
            machine: process::machine(),
            sections: sections.map(|text| format!("## {text}")).collect(),
            plots: Vec::new(),
        }
    }

    /// Replaces the section of that title, or adds it.
    pub(crate) fn add(&mut self, section: Section) {
        let text = format!("{section}\nMeasured on {}.\n", self.machine);
        eprintln!("{text}");
        let heading = format!("## {}\n", section.title);
        let before = self.sections.iter_mut();
        match before.into_iter().find(|text| text.starts_with(&heading)) {
            Some(before) => *before = text,
            None => self.sections.push(text),
        }
        self.plots.extend(section.plots);
    }

    /// Writes the page to `benches/`, beside this package.
    pub(crate) fn write(&self) {
        let plots = benches().join("plots");
        fs::create_dir_all(&plots).expect("a folder for the plots");
        for plot in &self.plots {
            fs::write(plots.join(plot.file), &plot.svg).expect("a plot is written");
        }
        fs::write(benches().join(PAGE), self.to_string()).expect("the page is written");
    }
}

const PAGE: &str = "MEASUREMENTS.md";

fn benches() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Measurements\n\n\
             [README.md](README.md) has the figures for users. This page is written by \
             `cargo run --release --manifest-path benches/cost/Cargo.toml`, which measures \
             each figure in the same run as what it is compared with. `--only` measures some of the \
             sections again, so sections may be from different runs, and each names its machine. \
             Look at the ratios: the absolute figures are those of the machine."
        )?;
        for section in &self.sections {
            write!(f, "\n{}\n", section.trim_end())?;
        }
        Ok(())
    }
}
