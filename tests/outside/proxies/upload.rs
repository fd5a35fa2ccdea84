//! Uploads to a proxy: how they are sent, and the response.

use std::{path::Path, process::Command};

use libtest_mimic::Failed;
use testkit::outside::{Need, interpreter, repository, succeed};

/// How the file is sent.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    Raw,
    RawExpect,
    Form,
    FormExpect,
    Chunked,
    /// With Python's `http.client`, which reads nothing before it has sent everything.
    SentFirst,
}

use Shape::{Chunked, Form, FormExpect, Raw, RawExpect, SentFirst};

impl Shape {
    pub(crate) const ALL: [Self; 6] = [Raw, RawExpect, Form, FormExpect, Chunked, SentFirst];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Raw => "raw",
            RawExpect => "raw_expect",
            Form => "form",
            FormExpect => "form_expect",
            Chunked => "chunked",
            SentFirst => "sent_first",
        }
    }

    pub(crate) fn need(self) -> Need {
        match self {
            SentFirst => Need::python("http.client"),
            _ => Need::program("curl"),
        }
    }

    /// Sends the file to the form at `url`. Returns the response and all output.
    pub(crate) fn send(self, url: &str, file: &Path) -> Result<Answer, Failed> {
        let raw = format!("{url}/raw");
        let at_file = format!("@{}", file.display());
        let mut command = match self {
            Raw | RawExpect => {
                let mut curl = curl(&raw);
                curl.args(["--data-binary", &at_file]);
                curl
            }
            Form | FormExpect => {
                let mut curl = curl(url);
                curl.args(["--form", &format!("photopicker={at_file}")]);
                curl
            }
            Chunked => {
                let mut curl = curl(&raw);
                curl.args(["--header", "Transfer-Encoding: chunked", "--upload-file"]);
                curl.arg(file);
                curl
            }
            SentFirst => {
                let python = interpreter("http.client").expect("the trial needs it");
                let mut command = Command::new(python);
                command.arg(repository("tests/clients/upload.py"));
                command.args(["http.client", "raw", &raw]).arg(file);
                command
            }
        };
        match self {
            Raw | Form | Chunked => command.args(["--header", "Expect:"]),
            RawExpect | FormExpect => command.args(["--header", "Expect: 100-continue"]),
            SentFirst => &mut command,
        };
        Answer::of(&mut command)
    }
}

/// Sends a file within the limit, with the token that some forms require.
pub(crate) fn send_small(url: &str, file: &Path) -> Result<Answer, Failed> {
    let mut curl = curl(&format!("{url}/raw"));
    curl.args(["--header", "Authorization: Bearer open-sesame"]);
    curl.args(["--data-binary", &format!("@{}", file.display())]);
    Answer::of(&mut curl)
}

pub(crate) fn get(url: &str) -> Result<Answer, Failed> {
    Answer::of(&mut curl(url))
}

/// Returns whether the client failed to send or receive on an established connection.
pub(crate) fn is_reset(failed: &Failed) -> bool {
    let said = failed.message().unwrap_or_default();
    let words = [
        "curl: (55)",
        "curl: (56)",
        "BrokenPipeError",
        "ConnectionResetError",
    ];
    words.iter().any(|error| said.contains(error))
}

/// A response that a client read to its end, according to its exit status.
#[derive(Debug)]
pub(crate) struct Answer {
    said: String,
}

impl Answer {
    fn of(command: &mut Command) -> Result<Self, Failed> {
        let said = succeed(command)?;
        Ok(Self { said })
    }

    pub(crate) fn has(&self, status: &str, words: &str) -> bool {
        // curl prints the status in its last line, and upload.py in its first.
        let mut lines = self.said.lines();
        let (first, last) = (lines.next(), lines.next_back());
        let is_status = |line: Option<&str>| line.is_some_and(|line| line.starts_with(status));
        (is_status(first) || is_status(last)) && self.said.contains(words)
    }
}

fn curl(url: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "60"]);
    curl.args(["--write-out", "\\n%{http_code}\\n", url]);
    curl
}
