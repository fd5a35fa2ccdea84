//! Tells whether clients receive the early responses of an HTTP server.
//!
//! A server that responds before it has read an upload, and then closes its socket, makes its
//! kernel reset the connection. The client reports a reset instead of the response. This crate
//! uploads to a URL as many kinds of client, and reports which of them receive the response.
//!
//! ```no_run
//! use early_response_probe::{Client, Options, Target, probe};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let target = Target::new("http://127.0.0.1:3000/upload").await?;
//! let options = Options {
//!     runs: 1,
//!     expected_status: Some(413),
//!     clients: vec![Client::SendsFirst, Client::Reads],
//!     ..Options::default()
//! };
//! let report = probe(&target, &options, |_| {}).await?;
//! assert!(report.passed, "{:?}", report.findings);
//! # Ok(())
//! # }
//! ```
//!
//! # How it judges
//!
//! [`Observation`] has the facts about one upload. [`Outcome::of`] and [`findings`] judge them
//! without a clock or a socket, and [`Finding::verdict`] explains a judgement in plain words.
//!
//! # Caveats
//!
//! - On Linux, a client can read what it received before a reset. So the probe asks the kernel for
//!   a reset before each read, and reports a response that it reads afterwards as
//!   [`Outcome::AfterReset`]. A reset that arrives between the question and the read goes
//!   unnoticed.
//! - Only a response that comes before the upload is sent tells something. Send more than the
//!   sockets of both sides buffer, which is about 4 MiB each on the loopback interface of Linux.
//! - Over TLS, a client that writes everything first cannot tell whether the response was early.
//! - HTTP/3 is probed if a response of the server has `Alt-Svc` with h3, or if
//!   [`Options::http3_without_alt_svc`] is set.

mod body;
mod client;
mod connection;
mod context;
mod finding;
mod http1;
mod http2;
mod http3;
mod judge;
mod observation;
mod options;
mod probe;
mod report;
mod socket;
mod target;
#[cfg(feature = "cli")]
pub mod text;
mod volume;

pub use self::{
    client::Client,
    finding::{Finding, Severity, Verdict},
    judge::{Outcome, findings},
    observation::{Observation, Received, Second},
    options::Options,
    probe::{ProbeError, Progress, probe},
    report::{ClientReport, FindingReport, Report, Run},
    target::{Target, TargetError},
};

/// The value of `User-Agent`.
const USER_AGENT: &str = concat!("early-response-probe/", env!("CARGO_PKG_VERSION"));
