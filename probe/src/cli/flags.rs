//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum, builder::PossibleValue};
use early_response_probe::{Client, Options};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

const AFTER_HELP: &str = "\
Exit status:
  0  each response arrived
  1  a client met a fault, or the status is not that of --expect-status
  2  the server cannot be probed, or a flag is wrong
  3  no response was early, or --max-volume did not suffice";

/// Tells whether clients receive the early responses of an HTTP server
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub(crate) struct Flags {
    #[arg(
        help = "Where to upload to, as in http://127.0.0.1:3000/upload",
        required_unless_present = "schema",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) url: String,

    /// The size of each upload; it should exceed the server's limit by 16 MiB or more
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    size: u64,

    /// How many uploads each client makes
    #[arg(long, value_name = "NUMBER", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// The method of the uploads
    #[arg(long, default_value = "POST")]
    method: Method,

    /// A header of all requests, as in 'Authorization: Bearer secret'; may be repeated
    #[arg(long, short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,

    /// Upload a form (multipart/form-data) with a file in this field
    #[arg(long, value_name = "FIELD", value_parser = field)]
    form: Option<String>,

    /// The most bytes per second that a client sends, as in 2MB [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    rate: Option<u64>,

    /// Fail if a response has another status, as in 413
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..600))]
    expect_status: Option<u16>,

    /// How long a client waits while no byte moves, as in 10s
    #[arg(long, value_name = "TIME", default_value = "10s")]
    timeout: humantime::Duration,

    /// Accept any certificate
    #[arg(long, short = 'k')]
    insecure: bool,

    /// Run only these clients, separated by commas; those of HTTP/3 then run without Alt-Svc, too
    #[arg(
        long,
        value_name = "CLIENTS",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    only: Vec<Kind>,

    /// Print the report as JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,

    /// Print the report as Markdown
    #[arg(long)]
    markdown: bool,

    #[arg(
        long,
        value_name = "FILE",
        help = "Also write a JUnit report to this file"
    )]
    pub(crate) junit: Option<PathBuf>,

    /// The most bytes that all clients send together
    #[arg(long, value_name = "SIZE", default_value = "16GiB", value_parser = size)]
    max_volume: u64,

    /// Probe a server that is not on this machine
    #[arg(long)]
    pub(crate) yes: bool,

    /// Print the JSON schema of --json
    #[arg(long)]
    pub(crate) schema: bool,
}

/// The form of the report.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    Table,
    Markdown,
    Json,
}

/// A client, as a value of `--only`.
#[derive(Clone, Copy, Debug)]
struct Kind(Client);

impl ValueEnum for Kind {
    fn value_variants<'a>() -> &'a [Self] {
        const KINDS: [Kind; Client::ALL.len()] = {
            let mut kinds = [Kind(Client::SendsFirst); Client::ALL.len()];
            let mut at = 0;
            while at < kinds.len() {
                kinds[at] = Kind(Client::ALL[at]);
                at += 1;
            }
            kinds
        };
        &KINDS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()).help(self.0.describe()))
    }
}

impl Flags {
    pub(crate) fn options(&self) -> Options {
        let clients: Vec<_> = self.only.iter().map(|kind| kind.0).collect();
        Options {
            size: self.size,
            runs: self.runs,
            method: self.method.clone(),
            headers: HeaderMap::from_iter(self.header.iter().cloned()),
            form_field: self.form.clone(),
            rate: self.rate,
            expected_status: self.expect_status,
            timeout: self.timeout.into(),
            insecure: self.insecure,
            http3_without_alt_svc: clients.iter().any(|client| client.is_http3()),
            clients: match clients.is_empty() {
                true => Client::ALL.to_vec(),
                false => clients,
            },
            max_volume: self.max_volume,
        }
    }

    pub(crate) fn format(&self) -> Format {
        match (self.json, self.markdown) {
            (true, _) => Format::Json,
            (false, true) => Format::Markdown,
            (false, false) => Format::Table,
        }
    }
}

fn size(s: &str) -> Result<u64, String> {
    parse_size::parse_size(s)
        .map_err(|e| format!("{e}; give a number of bytes, or one with a unit, as in 500k or 4MiB"))
}

fn rate(s: &str) -> Result<u64, String> {
    match size(s)? {
        0 => Err("a client that sends nothing never ends; give at least 1".to_owned()),
        rate => Ok(rate),
    }
}

fn header(s: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = s
        .split_once(':')
        .ok_or("give a name and a value, as in 'Authorization: Bearer secret'")?;
    let name = name.trim().parse().map_err(|e| format!("{name:?}: {e}"))?;
    let value = value
        .trim()
        .parse()
        .map_err(|e| format!("{value:?}: {e}"))?;
    Ok((name, value))
}

fn field(s: &str) -> Result<String, String> {
    match s.contains(['"', '\r', '\n']) {
        true => Err("a field name has no quotes and no line breaks".to_owned()),
        false => Ok(s.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_well_formed() {
        Flags::command().debug_assert();
    }

    #[test]
    fn flags_become_options() {
        let flags = Flags::parse_from([
            "probe",
            "--size",
            "1MiB",
            "--only",
            "reads,h2-stops",
            "-H",
            "A: b",
            "http://[::1]/",
        ]);
        let options = flags.options();
        assert_eq!(options.size, 1 << 20);
        assert_eq!(options.clients, [Client::Reads, Client::H2Stops]);
        assert_eq!(options.headers["a"], "b");
    }

    #[test]
    fn selected_http3_client_needs_no_alt_svc() {
        for (only, expected) in [("reads,h3-stops", true), ("reads", false)] {
            let flags = Flags::parse_from(["probe", "--only", only, "https://[::1]/"]);
            assert_eq!(flags.options().http3_without_alt_svc, expected);
        }
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let options = Flags::parse_from(["probe", "http://[::1]/"]).options();
        assert_eq!(format!("{options:?}"), format!("{:?}", Options::default()));
    }

    #[test]
    fn unusable_values_are_refused() {
        for arguments in [
            &["--rate", "0"][..],
            &["--runs", "0"],
            &["--header", "x"],
            &["--form", "a\"b"],
            &["--only", "unknown"],
            &["--expect-status", "42"],
            &["--json", "--markdown"],
        ] {
            let all = [&["probe", "http://[::1]/"], arguments].concat();
            assert!(Flags::try_parse_from(all).is_err(), "{arguments:?}");
        }
        assert!(Flags::try_parse_from(["probe"]).is_err());
        assert!(Flags::try_parse_from(["probe", "--schema"]).is_ok());
    }
}
