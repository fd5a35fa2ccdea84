//! Programs from outside against the upload form, from the table `tests/clients/clients.toml`, which
//! the lab shares. Each reads "413" and the reason, for 20 MB, in each of several tries (`TRIES`, 3 if
//! not set). Those that are marked as thorough do so for 64 MB and for each shape of the body as
//! well. They run over HTTP/1.1 and HTTP/2, with TLS and without, and over gRPC.

mod table;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, LazyLock},
};

use libtest_mimic::Failed;

use testkit::outside::{self, Form, Need, Trial, example, succeed, trial};

use self::table::{
    Client, Over,
    Over::{Grpc, GrpcWeb, Http1, Http1Tls, Http2, Http2Tls},
};

impl Over {
    fn prefix(self) -> &'static str {
        match self {
            Http1 => "",
            Http1Tls => "tls_",
            Http2 => "h2_",
            Http2Tls => "h2_tls_",
            Grpc => "grpc_",
            GrpcWeb => "grpc_web_",
        }
    }

    /// Returns the upload sizes. After the response, the server drains at most 64 MiB of a stream,
    /// and any number of bytes of an HTTP/1 connection.
    fn sizes(self) -> &'static [usize] {
        match self {
            Http1 | Http1Tls => &[MB_20, MB_64],
            Http2 | Http2Tls | Grpc | GrpcWeb => &[MB_20],
        }
    }

    /// Returns the status as clients print it that could speak either version. Clients have their own
    /// spelling of a gRPC status.
    fn status_line(self) -> &'static str {
        match self {
            Http1 | Http1Tls => "413",
            Http2 | Http2Tls => "413 over HTTP/2",
            Grpc | GrpcWeb => "",
        }
    }
}

/// How often a client may lose its own race in a try. `OkHttp` lost it 5 times in 145, all in one
/// series of 25.
const RACES: usize = 3;

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
            Grpc | GrpcWeb => unreachable!("the form does not speak gRPC"),
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
    /// The gRPC example, which needs a feature.
    grpc: LazyLock<Form>,
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
            grpc: LazyLock::new(|| {
                let program = Command::new(example("grpc_upload"));
                Form::start_by(program, "127.0.0.1:0", &["--limit", "4MiB"])
            }),
            files,
        }
    }

    /// Returns the URL of the server for a client.
    fn url(&self, client: &Client, over: Over) -> &str {
        match over {
            Grpc | GrpcWeb => &self.grpc.url,
            Http2 | Http2Tls if client.is_patient() => self.patient.url(over),
            _ => self.forms.url(over),
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
    let clients: Vec<_> = table::clients().into_iter().map(Arc::new).collect();
    let mut trials: Vec<_> = clients
        .iter()
        .flat_map(|client| trials_of(&fixture, client))
        .collect();
    let curl = clients.iter().find(|client| client.name() == "curl");
    trials.push(one_connection(&fixture, curl.expect("the table has curl")));
    trials.extend([Http2, Http2Tls].map(|over| many_streams(&fixture, over)));
    trials
}

fn trials_of(fixture: &Shared, client: &Arc<Client>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for &over in client.over() {
        let is_grpc = matches!(over, Grpc | GrpcWeb);
        // `browsers.rs` tests the form in browsers, and the gRPC example needs a feature.
        if client.is_browser() && !is_grpc || is_grpc && !cfg!(feature = "tonic") {
            continue;
        }
        let (shapes, sizes) = match client.is_thorough() {
            true => (client.shapes(), over.sizes()),
            false => (&client.shapes()[..1], &over.sizes()[..1]),
        };
        for shape in shapes {
            for &size in sizes {
                let (fixture, shape) = (Arc::clone(fixture), shape.clone());
                let (client, mb) = (Arc::clone(client), size / 1_000_000);
                let name = format!("{}{}_{shape}_{mb}_mb", over.prefix(), client.slug());
                trials.push(trial(name, &client.needs(), move || {
                    let url = fixture.url(&client, over);
                    let file = fixture.file(size);
                    sees_the_refusal(&client, over, &shape, url, &file)
                }));
            }
        }
    }
    trials
}

fn tries() -> usize {
    env::var("TRIES").map_or(3, |tries| tries.parse().expect("a number"))
}

fn sees_the_refusal(
    client: &Client,
    over: Over,
    shape: &str,
    url: &str,
    file: &Path,
) -> Result<(), Failed> {
    // Each line of a client that repeats by itself is a try.
    let (runs, repeats) = match client.repeats() {
        true => (1, tries()),
        false => (tries(), 1),
    };
    for _ in 0..runs {
        let said = run(client, &mut client.command(over, shape, url, file, repeats))?;
        for expected in [over.status_line(), "limit is 4 MiB"] {
            let found = match client.repeats() {
                true => said.lines().filter(|line| line.contains(expected)).count() == repeats,
                false => said.contains(expected),
            };
            if !found {
                return Err(format!("no {expected} in: {said}").into());
            }
        }
    }
    Ok(())
}

/// Tests that the connection of a refused upload serves the next one. This runs with TLS only: with
/// prior knowledge, curl 7.88 fails with any second request on a connection, whatever the first
/// was.
fn one_connection(fixture: &Shared, curl: &Arc<Client>) -> Trial {
    let (fixture, client) = (Arc::clone(fixture), Arc::clone(curl));
    let name = "h2_tls_curl_twice_on_one_connection";
    trial(name, &[Need::program("curl")], move || {
        let url = fixture.forms.url(Http2Tls);
        for _ in 0..tries() {
            let mut curl = client.command(Http2Tls, "raw", url, &fixture.file(MB_20), 1);
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

/// Runs the command, and again if the client has lost its own race.
fn run(client: &Client, command: &mut Command) -> Result<String, Failed> {
    for _ in 0..RACES {
        match run_once(client, command) {
            Err(error) if client.has_lost_its_race(error.message().unwrap_or_default()) => {}
            ended => return ended,
        }
    }
    Err(format!("{command:?}: lost its own race {RACES} times").into())
}

/// Runs the command, which ends with the exit status of a whole response.
fn run_once(client: &Client, command: &mut Command) -> Result<String, Failed> {
    let out = command.output()?;
    let said = [out.stderr, out.stdout].map(|text| String::from_utf8_lossy(&text).into_owned());
    match out.status.code() {
        Some(code) if client.is_ok(code) => Ok(said.concat()),
        code => Err(format!("{command:?}: {code:?}: {}", said.concat()).into()),
    }
}
