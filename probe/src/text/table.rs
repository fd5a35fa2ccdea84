//! The table: a row for each client.

use std::env;

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ContentArrangement, Table,
    modifiers::UTF8_ROUND_CORNERS, presets,
};

use super::size;
use crate::{
    finding::Finding,
    judge::Outcome,
    observation::Second,
    report::{ClientReport, Report},
};

const HEADER: [&str; 8] = [
    "client",
    "response",
    "status",
    "failed
writes",
    "resets",
    "first
byte",
    "in vain",
    "also",
];
/// The columns of text that a terminal needs for a table that fits it.
const MIN_WIDTH: u16 = 80;
/// The columns that are numbers.
const NUMBERS: std::ops::Range<usize> = 3..7;

/// The outcomes, with their words.
const OUTCOMES: [(Outcome, &str); 5] = [
    (Outcome::Whole, "whole"),
    (Outcome::AfterReset, "after a reset"),
    (Outcome::Cut, "cut"),
    (Outcome::Lost, "lost"),
    (Outcome::Stalled, "stalled"),
];

/// Returns the table for a terminal. It has colours if standard output is one.
pub(super) fn table(report: &Report) -> Table {
    let mut table = filled(report);
    table
        .load_preset(presets::UTF8_FULL_CONDENSED)
        .apply_modifier(UTF8_ROUND_CORNERS);
    // A narrower terminal would break words.
    if table.width().is_some_and(|width| width >= MIN_WIDTH) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    if env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        table.force_no_tty();
    }
    table
}

/// Returns the table as Markdown.
pub(super) fn markdown(report: &Report) -> Table {
    let mut table = filled(report);
    // A row of Markdown is one line.
    table.set_header(HEADER.map(|words| words.replace('\n', " ")));
    table.load_preset(presets::ASCII_MARKDOWN).force_no_tty();
    table
}

fn filled(report: &Report) -> Table {
    let mut table = Table::new();
    table.set_header(HEADER);
    for client in &report.clients {
        table.add_row(row(client));
    }
    for number in NUMBERS {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn row(client: &ClientReport) -> Vec<Cell> {
    let name = Cell::new(client.client.name());
    if client.runs.is_empty() {
        let why = client.skipped.as_deref().unwrap_or("no runs");
        let cells = ["not run", "", "", "", "", "", why].map(Cell::new);
        return [name].into_iter().chain(cells).collect();
    }
    let color = match client.faults().is_empty() {
        true => Color::Green,
        false => Color::Red,
    };
    let outcomes = OUTCOMES
        .map(|(outcome, word)| (client.count(outcome), word))
        .map(|(count, word)| (count > 0).then(|| format!("{count} {word}")));
    let outcomes: Vec<_> = outcomes.into_iter().flatten().collect();
    let statuses: Vec<_> = client.statuses().keys().map(u16::to_string).collect();
    let failed_writes = client.seen(|run| run.seen.failed_write.is_some());
    let resets = client.seen(|run| run.seen.reset.is_some() || run.seen.stream_reset.is_some());
    vec![
        name,
        Cell::new(outcomes.join(", "))
            .fg(color)
            .add_attribute(Attribute::Bold),
        Cell::new(statuses.join(", ")),
        count(failed_writes),
        count(resets),
        Cell::new(client.first_byte_ms().map(duration).unwrap_or_default()),
        Cell::new(client.sent_in_vain().map(size).unwrap_or_default()),
        Cell::new(also(client).join(", ")),
    ]
}

fn count(count: usize) -> Cell {
    let cell = Cell::new(count);
    match count {
        0 => cell,
        _ => cell.fg(Color::Yellow),
    }
}

fn duration(milliseconds: f64) -> String {
    match milliseconds {
        ..10.0 => format!("{milliseconds:.1} ms"),
        _ => format!("{milliseconds:.0} ms"),
    }
}

/// Returns what the other columns do not tell.
fn also(client: &ClientReport) -> Vec<String> {
    let found = |finding| client.seen(|run| run.findings.contains(&finding));
    let second = |second| client.seen(|run| run.seen.second == second);
    let words = [
        (second(Second::Served), "second request served"),
        (second(Second::Unserved), "second request not served"),
        (
            second(Second::NoResponse),
            "second request without a response",
        ),
        (
            found(Finding::BodyParsedAsRequest),
            "body parsed as a request",
        ),
        (found(Finding::TooManyResponses), "too many responses"),
        (found(Finding::ServedAfterClose), "served after close"),
        (found(Finding::SilentClose), "closed silently"),
        (found(Finding::Needless100), "100 sent needlessly"),
        (found(Finding::NotEarly), "not early"),
        (found(Finding::NoConnection), "no connection"),
        (found(Finding::UnexpectedStatus), "unexpected status"),
    ];
    let words = words.into_iter().filter(|(count, _)| *count > 0);
    let words = words.map(|(count, words)| format!("{count}× {words}"));
    let codes = client.stop_codes().into_iter();
    let codes = codes.map(|(code, count)| format!("{count}× STOP_SENDING {code}"));
    words.chain(codes).chain(client.skipped.clone()).collect()
}
