//! The clients that upload over HTTP/3: programs from outside, browsers, and h3's own.

use std::{net::SocketAddr, path::PathBuf, process::Command, sync::LazyLock, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use quinn::TransportConfig;
use sha2::{Digest, Sha256};
use testkit::{
    outside::{Need, find, interpreter, repository, succeed},
    tls::Certificate,
};
use tokio::{runtime::Runtime, time::timeout};
use tower_bodyguard::Linger;

use crate::{
    h3_client,
    servers::{self, Loop, app},
};

pub(crate) const LOOPS: [Loop; 3] = [Loop::H3Axum, Loop::H3AxumWithLayer, Loop::Ours];

/// The same app behind each loop.
pub(crate) struct Servers {
    pub(crate) runtime: Runtime,
    addrs: [SocketAddr; LOOPS.len()],
    /// SHA-256 of the certificate's public key, in base64.
    hash: String,
}

pub(crate) static SERVERS: LazyLock<Servers> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let certificate = Certificate::new();
    let linger = Linger::default();
    let entered = runtime.enter();
    let addrs = LOOPS.map(|which| {
        let endpoint = servers::endpoint(&certificate, TransportConfig::default());
        which.serve(endpoint, app(), &linger).addr
    });
    drop(entered);
    let hash = BASE64_STANDARD.encode(Sha256::digest(certificate.public_key()));
    Servers {
        runtime,
        addrs,
        hash,
    }
});

impl Servers {
    pub(crate) fn addr(&self, which: Loop) -> SocketAddr {
        let index = LOOPS.iter().position(|one| *one == which);
        self.addrs[index.expect("it is one of them")]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// h3's own, which sends everything before it reads.
    H3,
    Curl,
    Aioquic,
    Niquests,
    Chromium,
    Firefox,
}

pub(crate) const CLIENTS: [Client; 6] = [
    Client::H3,
    Client::Curl,
    Client::Aioquic,
    Client::Niquests,
    Client::Chromium,
    Client::Firefox,
];

/// The scenarios of the clients that are no browsers.
const OF_PROGRAMS: &[&str] = &[
    "413_declared",
    "413_streamed",
    "401",
    "404",
    "accepted",
    "get",
    "twenty_on_one",
    "ten_at_once",
];

const OF_BROWSERS: &[&str] = &[
    "get",
    "401_form_3kB",
    "401_form_60kB",
    "401_form_20MB",
    "401_fetch_3kB",
    "401_fetch_60kB",
    "401_fetch_20MB",
    "401_xhr_3kB",
    "401_xhr_60kB",
    "401_xhr_20MB",
    "404_form_3kB",
    "404_form_60kB",
    "404_form_20MB",
    "404_fetch_3kB",
    "404_fetch_60kB",
    "404_fetch_20MB",
    "404_xhr_3kB",
    "404_xhr_60kB",
    "404_xhr_20MB",
    "413_form_20MB",
    "413_fetch_20MB",
    "413_xhr_20MB",
    "accepted_form_3MB",
    "accepted_fetch_3MB",
    "accepted_xhr_3MB",
    "twenty_on_one",
    "ten_at_once",
];

/// Firefox has no uploads from a stream, whose length is not declared.
const OF_CHROMIUM_ALONE: &str = "413_stream_20MB";

/// How long a browser may take for a scenario that may never end. If its response arrives, it takes
/// less than a second on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// The result of a scenario, or the client's reason why it failed.
pub(crate) type Seen = Result<(), String>;

impl Client {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::H3 => "h3",
            Self::Curl => "curl",
            Self::Aioquic => "aioquic",
            Self::Niquests => "niquests",
            Self::Chromium => "chromium",
            Self::Firefox => "firefox",
        }
    }

    pub(crate) fn scenarios(self) -> Vec<&'static str> {
        match self {
            Self::Chromium => [OF_BROWSERS, &[OF_CHROMIUM_ALONE]].concat(),
            Self::Firefox => OF_BROWSERS.to_vec(),
            _ => OF_PROGRAMS.to_vec(),
        }
    }

    fn module(self) -> &'static str {
        match self {
            Self::Curl => "curl_cffi",
            _ => self.name(),
        }
    }

    pub(crate) fn needs(self) -> Vec<Need> {
        match self {
            Self::H3 => Vec::new(),
            Self::Curl | Self::Aioquic | Self::Niquests => vec![Need::python(self.module())],
            Self::Chromium => browser(&["chromium", "chromium-browser", "google-chrome"]),
            Self::Firefox => browser(&["firefox-esr", "firefox"]),
        }
    }

    /// Plays scenarios one after the other, each for at most `patience` if the client is a browser.
    pub(crate) fn play(
        self,
        which: Loop,
        scenarios: &[&str],
        patience: Duration,
    ) -> Result<Vec<Seen>, String> {
        let addr = SERVERS.addr(which);
        match self {
            Self::H3 => Ok(scenarios
                .iter()
                .map(|scenario| by_h3(addr, scenario, patience))
                .collect()),
            Self::Curl | Self::Aioquic | Self::Niquests => Ok(scenarios
                .iter()
                .map(|scenario| self.by_python(addr, scenario))
                .collect()),
            Self::Chromium | Self::Firefox => self.by_browser(addr, scenarios, patience),
        }
    }

    fn by_python(self, addr: SocketAddr, scenario: &str) -> Seen {
        let python = interpreter(self.module()).ok_or("no Python")?;
        let mut command = Command::new(python);
        command
            .arg(script("clients.py"))
            .args([self.name(), scenario]);
        run(command.arg(format!("https://{addr}"))).map(drop)
    }

    fn by_browser(
        self,
        addr: SocketAddr,
        scenarios: &[&str],
        patience: Duration,
    ) -> Result<Vec<Seen>, String> {
        let mut command = Command::new("node");
        command.arg(script("browser.mjs"));
        command.args([self.name(), &addr.port().to_string(), &SERVERS.hash]);
        command.arg(patience.as_secs().to_string());
        let printed = run(command.args(scenarios))?;
        let seen: Vec<_> = printed
            .lines()
            .map(|line| match line.split_once(' ') {
                Some((_, "ok")) => Ok(()),
                _ => Err(line.to_owned()),
            })
            .collect();
        match seen.len() == scenarios.len() {
            true => Ok(seen),
            false => Err(printed),
        }
    }
}

fn by_h3(addr: SocketAddr, scenario: &str, patience: Duration) -> Seen {
    let playing = h3_client::play(addr, scenario);
    let played = SERVERS
        .runtime
        .block_on(async { timeout(patience, playing).await });
    played.unwrap_or_else(|_| Err("nothing in time".to_owned()))
}

fn script(name: &str) -> PathBuf {
    repository("h3/tests/outside").join(name)
}

fn run(command: &mut Command) -> Result<String, String> {
    succeed(command).map_err(|failed| failed.message().unwrap_or("it failed").to_owned())
}

fn browser(programs: &[&str]) -> Vec<Need> {
    vec![
        Need::program("node"),
        Need {
            name: "no driver: `npm ci --prefix tests/browser`".to_owned(),
            missing: !repository("tests/browser/node_modules/puppeteer-core").exists(),
        },
        Need {
            name: format!("no {} on the PATH", programs[0]),
            missing: !programs.iter().any(|program| find(program).is_some()),
        },
    ]
}
