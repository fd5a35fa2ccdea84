//! The columns: clients that send a file, and how many of their tries read 413.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Output, Stdio},
};

use testkit::outside::{find, interpreter, repository};

/// The tries of a command-line client.
const TRIES: usize = 10;
/// The tries of a browser.
const PAGES: usize = 5;
/// The streams of h2load, on three connections.
const STREAMS: usize = 300;

/// The time for all tries of one process. A process that never ends has read nothing.
const SECONDS: &str = "180";
/// The time for one try: several times what the slowest client needs.
const SECONDS_A_TRY: &str = "5";

pub(crate) struct Client {
    /// The client's name with its version, or with the note that it is missing.
    pub(crate) name: String,
    /// `None` if the client is missing.
    upload: Option<Upload>,
    tries: usize,
}

/// Returns how many tries of one client with that URL and that file read the status and ended well.
/// Returns `None` if the program that makes the tries failed itself.
type Upload = Box<dyn Fn(&str, &Path) -> Option<usize>>;

impl Client {
    pub(crate) fn cell(&self, addr: SocketAddr, file: &Path) -> String {
        let url = format!("https://{addr}");
        match &self.upload {
            Some(upload) => match upload(&url, file) {
                Some(read) => format!("{read}/{}", self.tries),
                None => "failed".to_owned(),
            },
            None => "missing".to_owned(),
        }
    }
}

pub(crate) fn all() -> [Client; 6] {
    [
        curl(),
        httpx(),
        node(),
        h2load(),
        browser(
            "Chromium",
            &["chromium", "chromium-browser", "google-chrome"],
        ),
        browser("Firefox", &["firefox-esr", "firefox"]),
    ]
}

/// Returns a client whose process makes one try.
fn one_by_one(
    name: &str,
    version: Option<String>,
    succeeds: impl Fn(&str, &Path) -> bool + 'static,
) -> Client {
    let upload: Upload = Box::new(move |url, file| {
        let url = format!("{url}/raw");
        Some((0..TRIES).filter(|_| succeeds(&url, file)).count())
    });
    client(name, version, TRIES, upload)
}

fn client(name: &str, version: Option<String>, tries: usize, upload: Upload) -> Client {
    Client {
        upload: version.is_some().then_some(upload),
        name: match version {
            Some(version) => format!("{name} {version}"),
            None => format!("{name} (missing)"),
        },
        tries,
    }
}

fn curl() -> Client {
    one_by_one("curl", version("curl", 1), |url, file| {
        let mut curl = limited("curl".as_ref(), SECONDS_A_TRY);
        curl.args(["--silent", "--http2", "--insecure", "--header", "Expect:"]);
        curl.args(["--write-out", "\n%{http_code} over HTTP/%{http_version}"]);
        curl.arg("--data-binary")
            .arg(format!("@{}", file.display()));
        let said = said(curl.arg(url));
        said.is_some_and(|said| said.ends_with("\n413 over HTTP/2"))
    })
}

fn httpx() -> Client {
    let python = interpreter("httpx, h2");
    let version = python.as_ref().and_then(|python| {
        let print = "import httpx; print(httpx.__version__)";
        said(Command::new(python).args(["-c", print]))
    });
    let version = version.map(|version| version.trim().to_owned());
    let python = python.unwrap_or_default();
    one_by_one("httpx", version, move |url, file| {
        let mut upload = limited(&python, SECONDS_A_TRY);
        upload.arg(repository("tests/clients/upload.py"));
        let said = said(upload.args(["httpx", "raw", url]).arg(file));
        said.is_some_and(|said| said.starts_with("413 over HTTP/2\n"))
    })
}

fn node() -> Client {
    one_by_one("Node `http2`", version("node", 0), |url, file| {
        let mut upload = limited("node".as_ref(), SECONDS_A_TRY);
        upload.arg(repository("tests/clients/upload.mjs"));
        let said = said(upload.args(["http2", "raw", url]).arg(file));
        said.is_some_and(|said| said.starts_with("413 over HTTP/2\n"))
    })
}

/// Returns h2load, which counts a stream that is reset after its response as successful.
fn h2load() -> Client {
    let upload = |url: &str, file: &Path| {
        let mut h2load = limited("h2load".as_ref(), SECONDS);
        let streams = STREAMS.to_string();
        h2load.args(["-n", &streams, "-c", "3", "-m", "10", "-d"]);
        let said = said(h2load.arg(file).arg(format!("{url}/raw")))?;
        let figure = |unit: &str| -> Option<usize> {
            let (before, _) = said.split_once(&format!(" {unit}"))?;
            before.split_whitespace().next_back()?.parse().ok()
        };
        Some(figure("4xx")?.saturating_sub(figure("errored")?))
    };
    client("h2load", version("h2load", 1), STREAMS, Box::new(upload))
}

/// Returns a browser. The driver knows it by its name in lower case.
fn browser(name: &'static str, programs: &[&str]) -> Client {
    let driver = repository("tests/browser/node_modules/puppeteer-core").exists();
    let program = programs.iter().find(|program| find(program).is_some());
    let version = program
        .filter(|_| driver && find("node").is_some())
        .and_then(|program| {
            let out = said(Command::new(program).arg("--version"))?;
            let is_number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
            out.split_whitespace().find(is_number).map(str::to_owned)
        });
    let upload = move |url: &str, file: &Path| {
        let mut pages = limited("node".as_ref(), SECONDS);
        pages.arg(repository("tests/browser/pages.mjs"));
        pages.args(["--browser", &name.to_lowercase()]);
        pages.args(["--url", &format!("{url}/raw")]);
        pages.args(["--tries", &PAGES.to_string(), "--file"]);
        let said = said(pages.arg(file))?;
        let refused = |line: &&str| line.starts_with("413 over h2: ");
        Some(said.lines().filter(refused).count())
    };
    client(name, version, PAGES, Box::new(upload))
}

/// Returns the word with that number in the output of `--version`, from its last slash or letter
/// on.
fn version(program: &str, word: usize) -> Option<String> {
    let out = said(Command::new(program).arg("--version"))?;
    let word = out.split_whitespace().nth(word)?;
    let number = word.rfind(|c: char| !c.is_ascii_digit() && c != '.');
    Some(word[number.map_or(0, |i| i + 1)..].to_owned())
}

fn limited(program: &Path, seconds: &str) -> Command {
    let mut timeout = Command::new("timeout");
    timeout.arg(seconds).arg(program);
    timeout
}

/// Returns the output if the command succeeds.
fn said(command: &mut Command) -> Option<String> {
    let quiet = command.stdin(Stdio::null()).stderr(Stdio::null());
    let Output { status, stdout, .. } = quiet.output().ok()?;
    let text = String::from_utf8_lossy(&stdout).into_owned();
    status.success().then_some(text)
}
