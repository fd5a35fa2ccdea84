//! The command line.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use axum::http::StatusCode;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Command, Error, Parser};

use crate::auth::Token;

/// A file upload form that limits uploads, and whose refusals arrive.
#[derive(Debug, Parser)]
#[command(name = "upload_form")]
pub(crate) struct Flags {
    /// Where to listen; port 0 takes any free port
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:3000")]
    pub(crate) addr: SocketAddr,

    /// Listen on a Unix socket instead, which is removed at exit
    #[cfg(unix)]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["addr", "tls"])]
    pub(crate) unix: Option<PathBuf>,

    /// The largest request body to accept, in bytes, or with a unit: 500k, 4MiB, 1GB
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = size)]
    pub(crate) limit: u64,

    /// The status that refuses a larger one
    #[arg(
        long,
        default_value = "413",
        value_parser = PossibleValuesParser::new(["400", "413"]).try_map(|s| s.parse::<StatusCode>()),
    )]
    pub(crate) status: StatusCode,

    /// The folder that keeps the files [default: a temporary one, removed at exit]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,

    /// Let only those send who know this; `--token` shows it to the users of this machine
    #[arg(
        long,
        value_name = "SECRET",
        env = "UPLOAD_TOKEN",
        hide_env_values = true,
        value_parser = TokenParser,
    )]
    pub(crate) token: Option<Token>,

    /// How long uploads may go on after ctrl-c or SIGTERM, as in 8s or 1m
    #[arg(long, value_name = "TIME", default_value = "8s")]
    pub(crate) grace: humantime::Duration,

    /// How long to wait for a refused client that sends nothing, as in 5s or 500ms
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub(crate) linger_idle: humantime::Duration,

    /// How long to wait in all until a refused client has seen the answer, as in 30s or 2m
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub(crate) linger_total: humantime::Duration,

    /// How much a refused client may still send meanwhile: none for no bound, or a size
    #[arg(long, value_name = "SIZE", default_value = "none")]
    pub(crate) linger_bytes: Bound,

    /// How many refused clients may still be sending at once [default: 1024, or a quarter of
    /// the descriptors]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) linger_max: Option<usize>,

    /// Refuse uploads that come in slower, in bytes per second, after 5s
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) min_rate: Option<u64>,

    /// How long to read on, over HTTP/2, what a refused upload still sends, as in 2s or 20s
    #[arg(long, value_name = "TIME", default_value = "2s")]
    pub(crate) stream_linger: humantime::Duration,

    /// Serve HTTPS, with a certificate of its own making that no browser knows
    #[arg(long)]
    pub(crate) tls: bool,

    /// Leave out delivery: the hook on the connections alone, which is nothing to HTTP/2
    #[arg(long, conflicts_with = "plain")]
    pub(crate) hook_only: bool,

    /// Show the fault: tower-http's limit, and no hook on the connections
    #[arg(long)]
    pub(crate) plain: bool,
}

/// A number of bytes, or `none`. A type of its own, since clap takes an
/// `Option` for a flag that may be left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound(pub(crate) Option<u64>);

impl FromStr for Bound {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "none" => Ok(Self(None)),
            _ => size(s).map(Some).map(Self),
        }
    }
}

fn size(s: &str) -> Result<u64, String> {
    parse_size::parse_size(s)
        .map_err(|e| format!("{e}; give a number of bytes, or one with a unit, as in 500k or 4MiB"))
}

/// Unlike clap's own parsers it does not repeat a value that it refuses.
#[derive(Clone, Copy)]
struct TokenParser;

impl TypedValueParser for TokenParser {
    type Value = Token;

    fn parse_ref(&self, cmd: &Command, _: Option<&Arg>, value: &OsStr) -> Result<Token, Error> {
        // What is no Unicode has characters that are not ASCII.
        Token::new(&value.to_string_lossy()).map_err(|words| {
            let words = format!("--token or UPLOAD_TOKEN: {words}\n");
            Error::raw(ErrorKind::ValueValidation, words).with_cmd(cmd)
        })
    }
}
