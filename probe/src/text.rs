//! The report as text, with the feature `cli`.

mod table;

use std::fmt::Write as _;

use console::Style;
use humansize::{BINARY, format_size};
use textwrap::WordSplitter;

use crate::{
    finding::Severity,
    report::{FindingReport, Report},
};

/// Columns of the explanations.
const WIDTH: usize = 90;

/// Returns bytes with a unit, as in "64 MiB".
#[must_use]
pub fn size(bytes: u64) -> String {
    format_size(bytes, BINARY)
}

/// Returns the report as a table, and the verdicts below it.
///
/// It has colours if standard output is a terminal that shows them.
#[must_use]
pub fn terminal(report: &Report) -> String {
    let mut text = format!("{}\n", table::table(report));
    for finding in &report.findings {
        let title = severity_style(finding.severity).apply_to(finding.verdict.title);
        paragraph(&mut text, &format!("\n{title} ({})", seen_by(finding)), "");
        paragraph(&mut text, finding.verdict.meaning, "  ");
        if !finding.verdict.rfc.is_empty() {
            paragraph(&mut text, finding.verdict.rfc, "  ");
        }
        paragraph(&mut text, &format!("Mend: {}", finding.verdict.mend), "  ");
    }
    paragraph(&mut text, &format!("\n{}", conclusion(report)), "");
    text
}

/// Returns the report as Markdown: a table, and a list of verdicts.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let mut text = format!("{}\n", table::markdown(report));
    for finding in &report.findings {
        let verdict = finding.verdict;
        let rfc = match verdict.rfc {
            "" => String::new(),
            rfc => format!(" {rfc}."),
        };
        let item = format!(
            "\n- **{}** ({}). {}{rfc} *Mend:* {}",
            verdict.title,
            seen_by(finding),
            verdict.meaning,
            verdict.mend
        );
        paragraph(&mut text, &item, "");
    }
    paragraph(&mut text, &format!("\n{}", conclusion(report)), "");
    text
}

fn conclusion(report: &Report) -> String {
    let lost = report.clients.iter().filter(|c| !c.faults().is_empty());
    let lost = lost.count();
    let ran = report.clients.iter().filter(|c| !c.runs.is_empty()).count();
    let sent = size(report.bytes_sent);
    match (report.passed, report.judged, report.complete) {
        (false, ..) => format!("{lost} of {ran} clients met a fault. {sent} sent."),
        (true, false, _) => format!("No response was early: nothing was judged. {sent} sent."),
        (true, true, false) => format!("No fault, but --max-volume did not suffice. {sent} sent."),
        (true, true, true) => format!("All {ran} clients received each response. {sent} sent."),
    }
}

fn seen_by(finding: &FindingReport) -> String {
    let clients = finding.clients.iter();
    let clients = clients.map(|(client, runs)| format!("{} {runs}×", client.name()));
    clients.collect::<Vec<_>>().join(", ")
}

fn severity_style(severity: Severity) -> Style {
    match severity {
        Severity::Fault => Style::new().red().bold(),
        Severity::Advice => Style::new().yellow().bold(),
        Severity::Note => Style::new().bold(),
    }
}

/// Appends words, in lines of a readable length.
fn paragraph(text: &mut String, words: &str, indent: &str) {
    let options = textwrap::Options::new(WIDTH)
        .word_splitter(WordSplitter::NoHyphenation)
        .initial_indent(indent)
        .subsequent_indent(indent);
    // A string can always be written to.
    let _ = writeln!(text, "{}", textwrap::fill(words, options));
}
