//! Programs from outside against the upload form. Each reads "413" and the reason, for 20 MB and
//! for 64 MB, in each of several tries (`TRIES`, 3 if not set). They run over HTTP/1.1 and HTTP/2,
//! with TLS and without.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, LazyLock},
};

use libtest_mimic::Failed;

use testkit::outside::{self, Form, Need, Trial, interpreter, repository, succeed, trial};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Http1,
    Http1Tls,
    /// With prior knowledge, because nothing is negotiated without TLS.
    Http2,
    Http2Tls,
}

use Over::{Http1, Http1Tls, Http2, Http2Tls};

const HTTP_1: &[Over] = &[Http1, Http1Tls];
const HTTP_2: &[Over] = &[Http2, Http2Tls];
const ALL: &[Over] = &[Http1, Http1Tls, Http2, Http2Tls];

impl Over {
    fn prefix(self) -> &'static str {
        match self {
            Http1 => "",
            Http1Tls => "tls_",
            Http2 => "h2_",
            Http2Tls => "h2_tls_",
        }
    }

    /// Returns the upload sizes. After the response, the server drains at most 64 MiB of a stream,
    /// and any number of bytes of an HTTP/1 connection.
    fn sizes(self) -> &'static [usize] {
        match self {
            Http1 | Http1Tls => &[MB_20, MB_64],
            Http2 | Http2Tls => &[MB_20],
        }
    }

    /// Returns the status as clients print it that could speak either version.
    fn status_line(self) -> &'static str {
        match self {
            Http1 | Http1Tls => "413",
            Http2 | Http2Tls => "413 over HTTP/2",
        }
    }
}

/// Makes the command that uploads a file to a URL.
type Upload = fn(over: Over, url: &str, file: &Path) -> Command;

struct Client {
    name: &'static str,
    needs: Vec<Need>,
    over: &'static [Over],
    upload: Upload,
}

const MB_20: usize = 20_000_000;
const MB_64: usize = 64 << 20;
/// The size of each of many concurrent uploads.
const MB_1: usize = 1_000_000;

/// One form without TLS and one with TLS.
struct Forms {
    http: Form,
    https: Form,
}

impl Forms {
    fn start(flags: &[&str]) -> Self {
        Self {
            http: Form::start(flags),
            https: Form::start(&[flags, &["--tls"]].concat()),
        }
    }

    fn url(&self, over: Over) -> &str {
        match over {
            Http1 | Http2 => &self.http.url,
            Http1Tls | Http2Tls => &self.https.url,
        }
    }
}

struct Fixture {
    forms: Forms,
    /// Forms for clients that never stop sending, for which the default 2 s of a stream are too
    /// short.
    patient: Forms,
    /// Forms for uploads of 1 MB.
    small: Forms,
    files: tempfile::TempDir,
}

impl Fixture {
    fn start() -> Self {
        let files = tempfile::tempdir().expect("a temporary folder");
        for size in [MB_1, MB_20, MB_64] {
            outside::file_of(files.path(), size);
        }
        Self {
            forms: Forms::start(&["--limit", "4MiB"]),
            patient: Forms::start(&["--limit", "4MiB", "--stream-linger", "20s"]),
            small: Forms::start(&["--limit", "100k"]),
            files,
        }
    }

    fn file(&self, size: usize) -> PathBuf {
        self.files.path().join(format!("{size}.bin"))
    }
}

/// Started by the first trial. The last trial drops it, which ends its processes.
type Shared = Arc<LazyLock<Fixture>>;

pub(crate) fn trials() -> Vec<Trial> {
    let fixture = Arc::new(LazyLock::new(Fixture::start as _));
    let mut trials = trials_of(&fixture, clients(), |fixture| &fixture.forms);
    trials.extend(trials_of(&fixture, patient_clients(), |fixture| {
        &fixture.patient
    }));
    trials.push(one_connection(&fixture));
    trials.extend(HTTP_2.iter().map(|&over| many_streams(&fixture, over)));
    trials
}

fn clients() -> Vec<Client> {
    let client = |name, need: Need, over, upload| Client {
        name,
        needs: vec![need],
        over,
        upload,
    };
    let curl = |name, over, upload| client(name, Need::program("curl"), over, upload);
    let node = |name, over, upload| client(name, Need::program("node"), over, upload);
    let python = |name, module, over, upload| client(name, Need::python(module), over, upload);
    vec![
        curl("curl_form", ALL, |over, url, file| {
            curl_form(over, url, file, "Expect:")
        }),
        curl("curl_form_expect", &[Http1], |over, url, file| {
            curl_form(over, url, file, "Expect: 100-continue")
        }),
        curl("curl_raw", ALL, |over, url, file| {
            curl_raw(over, url, file, "Expect:")
        }),
        curl("curl_raw_expect", &[Http1], |over, url, file| {
            curl_raw(over, url, file, "Expect: 100-continue")
        }),
        curl("curl_raw_chunked", &[Http1], curl_chunked),
        client("wget_raw", Need::program("wget"), HTTP_1, wget),
        python("http_client_form", "http.client", HTTP_1, |_, url, file| {
            script("http.client", "form", url, file)
        }),
        python("http_client_raw", "http.client", HTTP_1, |_, url, file| {
            script("http.client", "raw", url, file)
        }),
        python("requests_form", "requests", &[Http1], |_, url, file| {
            script("requests", "form", url, file)
        }),
        python("requests_raw", "requests", &[Http1], |_, url, file| {
            script("requests", "raw", url, file)
        }),
        node("node_http_form", HTTP_1, |_, url, file| {
            script("http", "form", url, file)
        }),
        node("node_fetch_form", &[Http1], |_, url, file| {
            script("fetch", "form", url, file)
        }),
        node("node_fetch_raw", &[Http1], |_, url, file| {
            script("fetch", "raw", url, file)
        }),
        node("node_http2_form", HTTP_2, |_, url, file| {
            script("http2", "form", url, file)
        }),
        node("node_http2_raw", HTTP_2, |_, url, file| {
            script("http2", "raw", url, file)
        }),
    ]
}

/// Returns the clients that send everything before they look at what has arrived.
fn patient_clients() -> Vec<Client> {
    let httpx = |name, upload| Client {
        name,
        needs: vec![Need::python("httpx, h2")],
        over: HTTP_2,
        upload,
    };
    vec![
        httpx("httpx_form", |_, url, file| {
            script("httpx", "form", url, file)
        }),
        httpx("httpx_raw", |_, url, file| {
            script("httpx", "raw", url, file)
        }),
    ]
}

fn trials_of(fixture: &Shared, clients: Vec<Client>, forms: fn(&Fixture) -> &Forms) -> Vec<Trial> {
    let mut trials = Vec::new();
    for client in clients {
        for &over in client.over {
            for &size in over.sizes() {
                let fixture = Arc::clone(fixture);
                let (prefix, mb) = (over.prefix(), size / 1_000_000);
                let name = format!("{prefix}{}_{mb}_mb", client.name);
                trials.push(trial(name, &client.needs, move || {
                    let url = forms(&fixture).url(over);
                    let file = fixture.file(size);
                    sees_the_refusal(over, || (client.upload)(over, url, &file))
                }));
            }
        }
    }
    trials
}

fn tries() -> usize {
    env::var("TRIES").map_or(3, |tries| tries.parse().expect("a number"))
}

fn sees_the_refusal(over: Over, upload: impl Fn() -> Command) -> Result<(), Failed> {
    for _ in 0..tries() {
        let said = run_once(&mut upload())?;
        for expected in [over.status_line(), "limit is 4 MiB"] {
            if !said.contains(expected) {
                return Err(format!("no {expected} in: {said}").into());
            }
        }
    }
    Ok(())
}

/// Tests that the connection of a refused upload serves the next one. This runs with TLS only: with
/// prior knowledge, curl 7.88 fails with any second request on a connection, whatever the first
/// was.
fn one_connection(fixture: &Shared) -> Trial {
    let fixture = Arc::clone(fixture);
    let name = "h2_tls_curl_twice_on_one_connection";
    trial(name, &[Need::program("curl")], move || {
        let url = fixture.forms.url(Http2Tls);
        for _ in 0..tries() {
            let mut curl = curl_raw(Http2Tls, url, &fixture.file(MB_20), "Expect:");
            // Otherwise the exit status is that of the last transfer.
            curl.args([&format!("{url}/raw"), "--fail-early"]);
            let said = succeed(&mut curl)?;
            let statuses: Vec<_> = said.lines().filter(|line| line.contains("over")).collect();
            let both = [
                "413 over HTTP/2, connections made: 1",
                "413 over HTTP/2, connections made: 0",
            ];
            if statuses != both {
                return Err(format!("not {both:?}: {said}").into());
            }
        }
        Ok(())
    })
}

/// Tests that each of 300 uploads gets a response, on three connections. h2load does not count a
/// reset after the response. It counts a reset before the response, and the end of a connection.
fn many_streams(fixture: &Shared, over: Over) -> Trial {
    let name = format!("{}h2load_300_uploads", over.prefix());
    let fixture = Arc::clone(fixture);
    trial(name, &[Need::program("h2load")], move || {
        for _ in 0..tries() {
            let mut h2load = Command::new("h2load");
            h2load.args(["-n", "300", "-c", "3", "-m", "10", "-T", "60", "-d"]);
            h2load.arg(fixture.file(MB_1));
            let said = succeed(h2load.arg(format!("{}/raw", fixture.small.url(over))))?;
            for expected in [
                " 300 done, 0 succeeded, 300 failed, 0 errored, 0 timeout",
                " 0 2xx, 0 3xx, 300 4xx, 0 5xx",
            ] {
                if !said.contains(expected) {
                    return Err(format!("no {expected} in: {said}").into());
                }
            }
        }
        Ok(())
    })
}

/// Runs the command. wget exits with 8 if the server responded with an error.
fn run_once(command: &mut Command) -> Result<String, Failed> {
    if command.get_program() != "wget" {
        return succeed(command);
    }
    let out = command.output()?;
    let said = [out.stderr, out.stdout].map(|text| String::from_utf8_lossy(&text).into_owned());
    match out.status.code() {
        Some(8) => Ok(said.concat()),
        code => Err(format!("{command:?}: {code:?}: {}", said.concat()).into()),
    }
}

fn curl(over: Over, url: &str) -> Command {
    let mut curl = Command::new("curl");
    let written = "%{http_code} over HTTP/%{http_version}, connections made: %{num_connects}\\n";
    let version: &[&str] = match over {
        Http1 => &["--http1.1"],
        Http1Tls => &["--http1.1", "--insecure"],
        Http2 => &["--http2-prior-knowledge"],
        Http2Tls => &["--http2", "--insecure"],
    };
    curl.args(["--silent", "--show-error", "--max-time", "60"]);
    curl.args(version).args(["--write-out", written, url]);
    curl
}

fn curl_form(over: Over, url: &str, file: &Path, expect: &str) -> Command {
    let mut curl = curl(over, url);
    curl.args(["--header", expect, "--form"]);
    curl.arg(format!("photopicker=@{}", file.display()));
    curl
}

fn curl_raw(over: Over, url: &str, file: &Path, expect: &str) -> Command {
    let mut curl = curl(over, &format!("{url}/raw"));
    curl.args(["--header", expect, "--data-binary"]);
    curl.arg(format!("@{}", file.display()));
    curl
}

/// Sends from a pipe, whose length curl cannot know.
fn curl_chunked(over: Over, url: &str, file: &Path) -> Command {
    let mut curl = curl(over, &format!("{url}/raw"));
    curl.args([
        "--header",
        "Transfer-Encoding: chunked",
        "--header",
        "Expect:",
    ]);
    curl.arg("--upload-file").arg(file);
    curl
}

fn wget(_: Over, url: &str, file: &Path) -> Command {
    let mut wget = Command::new("wget");
    wget.args([
        "--tries=1",
        "--timeout=60",
        "--no-check-certificate",
        "--content-on-error",
        "--output-document=-",
    ]);
    wget.arg(format!("--post-file={}", file.display()));
    wget.arg(format!("{url}/raw"));
    wget
}

fn script(client: &str, shape: &str, url: &str, file: &Path) -> Command {
    let (program, name) = match client {
        "http" | "http2" | "fetch" => (Some("node".into()), "upload.mjs"),
        module => (interpreter(module), "upload.py"),
    };
    let mut command = Command::new(program.expect("the trial needs it"));
    command.arg(repository("tests/clients").join(name));
    let path = if shape == "raw" { "/raw" } else { "/" };
    command
        .args([client, shape, &format!("{url}{path}")])
        .arg(file);
    command
}
