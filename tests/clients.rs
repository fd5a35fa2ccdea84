//! Clients from outside against the upload form: each reads "413" and why, for
//! 20 MB and for 64 MB, in each of so many tries (`TRIES`, 3 if not set).

mod support;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use libtest_mimic::{Arguments, Failed, Trial};

use support::outside::{self, Form, Need, repository, succeed, trial};

/// Makes the command that uploads a file to a URL.
type Upload = fn(url: &str, file: &Path) -> Command;

const SIZES: [usize; 2] = [20_000_000, 64 << 20];

struct Fixture {
    form: Form,
    files: tempfile::TempDir,
}

fn main() {
    let fixture = Arc::new(Fixture {
        form: Form::start(&["--limit", "4MiB"]),
        files: tempfile::tempdir().expect("a temporary folder"),
    });
    for size in SIZES {
        outside::file_of(fixture.files.path(), size);
    }
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials(&fixture));
    // Before the exit, which runs no destructors: the form is a process.
    drop(Arc::into_inner(fixture));
    conclusion.exit();
}

fn trials(fixture: &Arc<Fixture>) -> Vec<Trial> {
    let curl = || [Need::program("curl")];
    let node = || [Need::program("node")];
    let clients: [(&str, Vec<Need>, Upload); 13] = [
        ("curl_form", curl().into(), |url, file| {
            curl_form(url, file, "Expect:")
        }),
        ("curl_form_expect", curl().into(), |url, file| {
            curl_form(url, file, "Expect: 100-continue")
        }),
        ("curl_raw", curl().into(), |url, file| {
            curl_raw(url, file, "Expect:")
        }),
        ("curl_raw_expect", curl().into(), |url, file| {
            curl_raw(url, file, "Expect: 100-continue")
        }),
        ("curl_raw_chunked", curl().into(), curl_chunked),
        ("wget_raw", [Need::program("wget")].into(), wget),
        ("http_client_form", python("http.client"), |url, file| {
            script("http.client", "form", url, file)
        }),
        ("http_client_raw", python("http.client"), |url, file| {
            script("http.client", "raw", url, file)
        }),
        ("requests_form", python("requests"), |url, file| {
            script("requests", "form", url, file)
        }),
        ("requests_raw", python("requests"), |url, file| {
            script("requests", "raw", url, file)
        }),
        ("node_http_form", node().into(), |url, file| {
            script("http", "form", url, file)
        }),
        ("node_fetch_form", node().into(), |url, file| {
            script("fetch", "form", url, file)
        }),
        ("node_fetch_raw", node().into(), |url, file| {
            script("fetch", "raw", url, file)
        }),
    ];
    clients
        .into_iter()
        .flat_map(|(name, needs, upload)| {
            SIZES.map(|size| {
                let fixture = Arc::clone(fixture);
                let name = format!("{name}_{}_mb", size / 1_000_000);
                trial(name, &needs, move || {
                    sees_the_refusal(&fixture, upload, size)
                })
            })
        })
        .collect()
}

fn sees_the_refusal(fixture: &Fixture, upload: Upload, size: usize) -> Result<(), Failed> {
    let file = fixture.files.path().join(format!("{size}.bin"));
    let tries = env::var("TRIES").map_or(3, |tries| tries.parse().expect("a number"));
    for _ in 0..tries {
        let said = run_once(&mut upload(&fixture.form.url, &file))?;
        for expected in ["413", "4194304 bytes (4 MiB)"] {
            if !said.contains(expected) {
                return Err(format!("no {expected} in: {said}").into());
            }
        }
    }
    Ok(())
}

/// wget exits with 8 when the server answered with an error.
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

fn curl(url: &str) -> Command {
    let mut curl = Command::new("curl");
    let written = "%{http_code}\\n";
    curl.args(["--silent", "--show-error", "--max-time", "60"]);
    curl.args(["--write-out", written, url]);
    curl
}

fn curl_form(url: &str, file: &Path, expect: &str) -> Command {
    let mut curl = curl(url);
    curl.args(["--header", expect, "--form"]);
    curl.arg(format!("photopicker=@{}", file.display()));
    curl
}

fn curl_raw(url: &str, file: &Path, expect: &str) -> Command {
    let mut curl = curl(&format!("{url}/raw"));
    curl.args(["--header", expect, "--data-binary"]);
    curl.arg(format!("@{}", file.display()));
    curl
}

/// From a pipe, whose length curl cannot know.
fn curl_chunked(url: &str, file: &Path) -> Command {
    let mut curl = curl(&format!("{url}/raw"));
    curl.args([
        "--header",
        "Transfer-Encoding: chunked",
        "--header",
        "Expect:",
    ]);
    curl.arg("--upload-file").arg(file);
    curl
}

fn wget(url: &str, file: &Path) -> Command {
    let mut wget = Command::new("wget");
    wget.args([
        "--tries=1",
        "--timeout=60",
        "--content-on-error",
        "--output-document=-",
    ]);
    wget.arg(format!("--post-file={}", file.display()));
    wget.arg(format!("{url}/raw"));
    wget
}

/// The interpreter that knows the module: where there are several, a package
/// is often with one of them only.
fn interpreter(module: &str) -> Option<PathBuf> {
    let knows = |python: &PathBuf| {
        let import = format!("import {module}");
        succeed(Command::new(python).args(["-c", &import])).is_ok()
    };
    let candidates = ["python3", "/usr/bin/python3"].map(PathBuf::from);
    candidates.into_iter().find(knows)
}

fn python(module: &'static str) -> Vec<Need> {
    vec![Need {
        name: format!("no python3 with {module}"),
        missing: interpreter(module).is_none(),
    }]
}

fn script(client: &str, shape: &str, url: &str, file: &Path) -> Command {
    let (program, name) = match client {
        "http" | "fetch" => (Some("node".into()), "upload.mjs"),
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
