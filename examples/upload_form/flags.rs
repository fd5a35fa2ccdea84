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
    /// The address to listen on; port 0 takes any free port
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:3000")]
    pub(crate) addr: SocketAddr,

    /// Listen on a Unix socket instead; it is removed at exit
    #[cfg(unix)]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["addr", "tls"])]
    pub(crate) unix: Option<PathBuf>,

    /// The largest request body to accept, in bytes, or with a unit: 500k, 4MiB, 1GB
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = size)]
    pub(crate) limit: u64,

    /// The status of the refusal
    #[arg(
        long,
        default_value = "413",
        value_parser = PossibleValuesParser::new(["400", "413"]).try_map(|s| s.parse::<StatusCode>()),
    )]
    pub(crate) status: StatusCode,

    /// The folder for the files [default: a temporary one, removed at exit]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,

    /// Only accept uploads with this token; `--token` shows it to the users of this machine
    #[arg(
        long,
        value_name = "SECRET",
        env = "UPLOAD_TOKEN",
        hide_env_values = true,
        value_parser = TokenParser,
    )]
    pub(crate) token: Option<Token>,

    /// How long uploads may continue after ctrl-c or SIGTERM, as in 8s or 1m
    #[arg(long, value_name = "TIME", default_value = "8s")]
    pub(crate) grace: humantime::Duration,

    /// How long to wait for a refused client that sends nothing, as in 5s or 500ms
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub(crate) linger_idle: humantime::Duration,

    /// How long to wait in total for a refused client to read the response, as in 30s or 2m
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub(crate) linger_total: humantime::Duration,

    /// How much a refused client may still send: a size, or none for no limit
    #[arg(long, value_name = "SIZE", default_value = "none")]
    pub(crate) linger_bytes: Bound,

    /// How many refused clients may linger [default: 1024, or a quarter of the file descriptors]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) linger_max: Option<usize>,

    /// Refuse uploads that are slower, in bytes per second, after 5s
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) min_rate: Option<u64>,

    /// How long to drain a refused upload over HTTP/2, as in 2s or 20s
    #[arg(long, value_name = "TIME", default_value = "2s")]
    pub(crate) stream_linger: humantime::Duration,

    /// Serve HTTPS with a self-signed certificate, which browsers do not trust
    #[arg(long)]
    pub(crate) tls: bool,

    /// Serve HTTP/3, too, over UDP on the same port; browsers switch to it by themselves
    #[arg(long, requires = "tls", conflicts_with_all = ["plain", "hook_only"])]
    pub(crate) http3: bool,

    /// Disable delivery: only the socket wrapper, which does nothing for HTTP/2
    #[arg(long, conflicts_with = "plain")]
    pub(crate) hook_only: bool,

    /// For demonstration: the page can send a file that its own check refuses
    #[arg(long)]
    pub(crate) demo: bool,

    /// For demonstration: show the fault, with tower-http's limit and without this crate
    #[arg(long)]
    pub(crate) plain: bool,
}

/// A number of bytes, or `none`. It is not an `Option`, because clap takes that for an optional
/// flag.
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

/// A parser that does not repeat a refused value in the error, unlike clap's own.
#[derive(Clone, Copy)]
struct TokenParser;

impl TypedValueParser for TokenParser {
    type Value = Token;

    fn parse_ref(&self, cmd: &Command, _: Option<&Arg>, value: &OsStr) -> Result<Token, Error> {
        // The replacement character is not ASCII, so `Token::new` refuses it.
        Token::new(&value.to_string_lossy()).map_err(|words| {
            let words = format!("--token or UPLOAD_TOKEN: {words}\n");
            Error::raw(ErrorKind::ValueValidation, words).with_cmd(cmd)
        })
    }
}
