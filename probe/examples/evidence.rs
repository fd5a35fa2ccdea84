//! Writes `docs/evidence/PROBE.md`: the results of the probe for five servers, in one run.
//!
//! `cargo run --release -p early-response-probe --example evidence` builds the servers and needs
//! nginx and Python. Uploads go over the loopback interface only.

#[path = "../tests/servers/programs.rs"]
mod programs;

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    process::{Command, Stdio},
};

use early_response_probe::{Client, Options, Outcome, Report, Target, probe, text};
use testkit::outside::{Form, repository, succeed};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const INTRODUCTION: &str = "\
# The results of the probe for five servers

Each server has a limit of 4 MiB. The [probe](../../probe/README.md) uploads 64 MiB ten times as
each of its clients of HTTP/1 and HTTP/2, over the loopback interface. The first table counts the
uploads whose response arrived whole, without a failed write or a reset before it. A response that
arrives after a reset is lost on Windows, and in clients that give up at a failed write. A client
that reads while it writes races with the reset, so its number varies from run to run. A dash means
that the server does not speak the protocol.";

/// Columns of the prose.
const WIDTH: usize = 100;

/// A server, and how it was started.
struct Subject {
    /// The head of its column.
    name: &'static str,
    title: &'static str,
    how: String,
    report: Report,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    build(&["--example", "upload_form", "--features", "axum"])?;
    build(&[
        "--manifest-path",
        "others/Cargo.toml",
        "--target-dir",
        "target/others",
        "--example",
        "actix",
    ])?;
    let subjects = [
        form("form", "The upload form", "With this crate", &[]).await?,
        form(
            "`--plain`",
            "The upload form with `--plain`",
            "The same app without this crate",
            &["--plain"],
        )
        .await?,
        wsgi().await?,
        nginx().await?,
        actix().await?,
    ];
    let page = page(&subjects)?;
    fs::write(repository("docs/evidence/PROBE.md"), page)?;
    Ok(())
}

fn build(arguments: &[&str]) -> Result<()> {
    eprintln!("cargo build --release {}", arguments.join(" "));
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release"])
        .args(arguments)
        .current_dir(repository(""))
        .status()?;
    status.success().then_some(()).ok_or("cargo failed".into())
}

/// Returns the clients that need no TLS.
fn clients() -> impl Iterator<Item = Client> {
    Client::ALL.into_iter().filter(|client| !client.is_http3())
}

async fn judge(name: &'static str, title: &'static str, how: String, url: &str) -> Result<Subject> {
    eprintln!("probing {name} at {url}");
    let target = Target::new(url).await?;
    let options = Options {
        clients: clients().collect(),
        ..Options::default()
    };
    let report = probe(&target, &options, |_| {}).await?;
    Ok(Subject {
        name,
        title,
        how,
        report,
    })
}

async fn form(
    name: &'static str,
    title: &'static str,
    what: &str,
    flags: &[&str],
) -> Result<Subject> {
    let command = [&["upload_form", "--limit", "4MiB"], flags].concat();
    let form = Form::start(&command[1..]);
    let lock = fs::read_to_string(repository("Cargo.lock"))?;
    let axum = locked(&lock, "axum");
    let how = format!("{what}: `{}`. {axum}.", command.join(" "));
    judge(name, title, how, &format!("{}/raw", form.url)).await
}

async fn wsgi() -> Result<Subject> {
    let program = programs::wsgi().map_err(|failed| format!("{failed:?}"))?;
    let python = succeed(Command::new("python3").arg("--version"));
    let how = format!(
        "A WSGI program that refuses with 400 by `CONTENT_LENGTH`, before it reads \
         `environ['wsgi.input']`: [wsgi.py](../../probe/servers/wsgi.py), with `wsgiref` of {}. It \
         takes a chunked upload for an empty one, and responds with 200.",
        python.unwrap_or_default().trim()
    );
    judge("WSGI", "A WSGI program", how, &program.url).await
}

async fn nginx() -> Result<Subject> {
    let (url, _daemon) = programs::nginx().map_err(|failed| format!("{failed:?}"))?;
    let version = Command::new("/usr/sbin/nginx").arg("-v").output()?.stderr;
    let how = format!(
        "`client_max_body_size 4m`: [nginx.conf](../../probe/servers/nginx.conf). {}.",
        String::from_utf8_lossy(&version)
            .trim()
            .trim_start_matches("nginx version: ")
    );
    judge("nginx", "nginx", how, &url).await
}

async fn actix() -> Result<Subject> {
    let program = repository("target/others/release/examples/actix");
    let actix = Form::start_with(Command::new(program), &[]);
    let lock = fs::read_to_string(repository("others/Cargo.lock"))?;
    let how = format!(
        "`PayloadConfig::new(4 << 20)`: [actix.rs](../../others/examples/actix.rs). {}.",
        locked(&lock, "actix-web")
    );
    judge("actix-web", "actix-web", how, &actix.url).await
}

/// Returns the name and the version of a package.
fn locked(lock: &str, package: &str) -> String {
    let entry = format!("name = \"{package}\"\nversion = \"");
    let version = lock
        .split_once(&entry)
        .and_then(|(_, rest)| rest.split('"').next());
    format!("{package} {}", version.unwrap_or("of an unknown version"))
}

fn page(subjects: &[Subject]) -> Result<String> {
    let mut page = format!("{INTRODUCTION}\n\n");
    let names = subjects.iter().map(|subject| subject.name);
    let names: Vec<_> = ["client"].into_iter().chain(names).collect();
    writeln!(page, "| {} |", names.join(" | "))?;
    writeln!(page, "|{}", " --- |".repeat(names.len()))?;
    for client in clients() {
        let cells = subjects.iter().map(|subject| cell(&subject.report, client));
        let cells: Vec<_> = cells.collect();
        let name = client.name();
        writeln!(
            page,
            "| {name}: {} | {} |",
            client.describe(),
            cells.join(" | ")
        )?;
    }
    let uname = |flag| succeed(Command::new("uname").arg(flag));
    let kernel = uname("-sr").map_err(|failed| format!("{failed:?}"))?;
    let date = Command::new("date")
        .arg("-I")
        .stdin(Stdio::null())
        .output()?;
    // The build of the kernel follows its version.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let origin = format!(
        "Re-create this page with `cargo run --release -p early-response-probe --example \
         evidence`. It is of {}, {kernel}, early-response-probe {}.",
        String::from_utf8(date.stdout)?.trim(),
        subjects[0].report.version
    );
    writeln!(page, "\n{}", textwrap::fill(&origin, WIDTH))?;
    for subject in subjects {
        let how = textwrap::fill(&subject.how, WIDTH);
        writeln!(page, "\n## {}\n\n{how}\n", subject.title)?;
        page += &text::markdown(&subject.report);
    }
    Ok(page)
}

fn cell(report: &Report, client: Client) -> String {
    let mut clients = report.clients.iter();
    let client = clients.find(|report| report.client == client);
    match client.map(|client| (client.count(Outcome::Whole), client.runs.len())) {
        None | Some((_, 0)) => "–".to_owned(),
        Some((whole, runs)) => format!("{whole}/{runs}"),
    }
}
