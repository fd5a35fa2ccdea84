//! Writes `docs/evidence/PROBE.md`: the results of the probe for five servers, in one run.
//!
//! `cargo run --release -p early-response-probe --example evidence` builds the servers and needs
//! nginx and Python. Uploads go over the loopback interface only.

#[path = "../src/cli/output.rs"]
mod output;
#[path = "../tests/servers/programs.rs"]
mod programs;
#[path = "../src/cli/table.rs"]
mod table;

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    process::{Command, Stdio},
};

use early_response_probe::{Client, Options, Outcome, Report, Target, probe};
use testkit::outside::{Form, repository, succeed};

use self::output::Format;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const INTRODUCTION: &str = "\
# The results of the probe for five servers

Each server has a limit of 4 MiB. The [probe](../../probe/README.md) uploads 64 MiB ten times as
each of its clients, over the loopback interface. The first table counts the uploads whose response
arrived whole, without a failed write or a reset before it. A dash means that the server does not
speak the protocol.";

/// A server, and how it was started.
struct Subject {
    name: &'static str,
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
        form("the form", "with this crate", &[]).await?,
        form("`--plain`", "the same app without this crate", &["--plain"]).await?,
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

async fn judge(name: &'static str, how: String, url: &str) -> Result<Subject> {
    eprintln!("probing {name} at {url}");
    let target = Target::new(url).await?;
    let report = probe(&target, &Options::default(), |_| {}).await?;
    Ok(Subject { name, how, report })
}

async fn form(name: &'static str, what: &str, flags: &[&str]) -> Result<Subject> {
    let form = Form::start(flags);
    let how = format!(
        "The upload form, {what}: `upload_form --limit 4MiB {}`. {}.",
        flags.join(" "),
        version_of("axum")?
    );
    let how = how.replace(" `.", "`.");
    judge(name, how, &format!("{}/raw", form.url)).await
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
    judge("WSGI", how, &program.url).await
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
    judge("nginx", how, &url).await
}

async fn actix() -> Result<Subject> {
    let program = repository("target/others/release/examples/actix");
    let actix = Form::start_with(Command::new(program), &[]);
    let lock = fs::read_to_string(repository("others/Cargo.lock"))?;
    let how = format!(
        "`PayloadConfig::new(4 << 20)`: [actix.rs](../../others/examples/actix.rs). {}.",
        locked(&lock, "actix-web")
    );
    judge("actix-web", how, &actix.url).await
}

fn version_of(package: &str) -> Result<String> {
    let lock = fs::read_to_string(repository("Cargo.lock"))?;
    Ok(locked(&lock, package))
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
    for client in Client::ALL {
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
    writeln!(
        page,
        "\nRe-create this page with `cargo run --release -p early-response-probe --example \
         evidence`. It is of {}, {}, early-response-probe {}.",
        String::from_utf8(date.stdout)?.trim(),
        kernel.trim(),
        subjects[0].report.version
    )?;
    for subject in subjects {
        writeln!(page, "\n## {}\n\n{}\n", subject.name, subject.how)?;
        page += &output::text(&subject.report, Format::Markdown)?;
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
