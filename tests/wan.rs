//! Across a network of 100 ms and 20 Mbit/s, where a reset overtakes the answer:
//! the server's kernel counts the resets it sends. None with the hook, and more
//! than none without it, by the same meter.
//!
//! Needs root for its network namespaces, and a program that runs a command
//! between two of them: `WAN` names it, with `--rtt`, `--rate` and `--` as its
//! arguments, and `WAN_CLIENT`, `WAN_SERVER`, `WAN_SERVER_IP` set for the command.

mod support;

use std::{
    env,
    path::PathBuf,
    process::{Command, exit},
};

use libtest_mimic::{Arguments, Failed};

use support::outside::{Form, Need, file_of, repository, succeed, trial};

/// The tries of each client in one run.
const TRIES: usize = 3;

fn main() {
    // The same executable is what runs inside the network.
    if let Some(mode) = env::var_os("WAN_MODE") {
        let mode = mode.into_string().expect("set below");
        match upload_inside(&mode) {
            Ok(said) => println!("{said}"),
            Err(error) => {
                eprintln!("{}", error.message().unwrap_or("failed"));
                exit(1);
            }
        }
        return;
    }

    let needs = [
        Need::root(),
        Need::program("ip"),
        Need::program("nstat"),
        Need::program("curl"),
        Need::program("wget"),
        Need::program("python3"),
        Need::file(&emulator()),
        Need::file("/dev/net/tun".as_ref()),
    ];
    let trials = vec![
        trial("with_the_hook_no_reset_is_sent", &needs, || {
            let seen = across("hooked")?;
            match (seen.answers, seen.resets) {
                (answers, 0) if answers == seen.tries => Ok(()),
                _ => Err(format!("{seen:?}").into()),
            }
        }),
        trial("without_the_hook_the_meter_counts_resets", &needs, || {
            let seen = across("plain")?;
            match seen.resets {
                0 => Err(format!("{seen:?}").into()),
                _ => Ok(()),
            }
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn emulator() -> PathBuf {
    env::var_os("WAN").map_or_else(|| repository("../shared/wan/wan.py"), PathBuf::from)
}

#[derive(Debug)]
struct Seen {
    tries: usize,
    answers: usize,
    resets: usize,
}

fn across(mode: &str) -> Result<Seen, Failed> {
    let said = succeed(
        Command::new(emulator())
            .args(["--rtt", "100", "--rate", "20", "--"])
            .arg(env::current_exe()?)
            .env("WAN_MODE", mode),
    )?;
    let figure = |name: &str| {
        let mut words = said.split_whitespace().skip_while(|word| *word != name);
        words.nth(1).and_then(|word| word.parse().ok())
    };
    let seen = || {
        Some(Seen {
            tries: figure("tries")?,
            answers: figure("answers")?,
            resets: figure("resets")?,
        })
    };
    seen().ok_or_else(|| format!("no figures in: {said}").into())
}

/// Inside the network: a form in the server's namespace, clients in the other.
fn upload_inside(mode: &str) -> Result<String, Failed> {
    let [client, server, ip] = ["WAN_CLIENT", "WAN_SERVER", "WAN_SERVER_IP"].map(env::var);
    let (client, server, ip) = (client?, server?, ip?);
    let files = tempfile::tempdir()?;
    let file = file_of(files.path(), 8_000_000);

    let mut form = within(&server);
    form.arg(Form::program());
    let flags: &[&str] = match mode {
        "plain" => &["--limit", "1MiB", "--plain"],
        _ => &["--limit", "1MiB"],
    };
    let form = Form::start_by(form, &format!("{ip}:3000"), flags);
    let resets_before = resets(&server)?;

    let raw = format!("{}/raw", form.url);
    let python = repository("tests/clients/upload.py");
    let mut tries = 0;
    let mut answers = 0;
    for _ in 0..TRIES {
        let mut curl = within(&client);
        curl.args([
            "curl",
            "--silent",
            "--max-time",
            "60",
            "--header",
            "Expect:",
        ]);
        curl.args(["--write-out", "%{http_code}", "--data-binary"]);
        curl.arg(format!("@{}", file.display())).arg(&raw);
        let mut wget = within(&client);
        wget.args(["wget", "--tries=1", "--timeout=60", "--output-document=-"]);
        wget.arg(format!("--post-file={}", file.display()))
            .arg(&raw);
        let mut http_client = within(&client);
        http_client.arg("python3").arg(&python);
        http_client.args(["http.client", "raw", &raw]).arg(&file);
        for mut upload in [curl, wget, http_client] {
            let out = upload.output()?;
            let said = [out.stdout, out.stderr].concat();
            tries += 1;
            answers += usize::from(String::from_utf8_lossy(&said).contains("413"));
        }
    }
    let resets = resets(&server)? - resets_before;
    Ok(format!("tries {tries} answers {answers} resets {resets}"))
}

fn within(namespace: &str) -> Command {
    let mut ip = Command::new("ip");
    ip.args(["netns", "exec", namespace]);
    ip
}

/// `TcpOutRsts` of the namespace's kernel counters.
fn resets(namespace: &str) -> Result<usize, Failed> {
    let said = succeed(within(namespace).args(["nstat", "-asz", "TcpOutRsts"]))?;
    let line = said.lines().find(|line| line.starts_with("TcpOutRsts"));
    let figure = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    figure
        .map(|figure| figure as usize)
        .ok_or_else(|| format!("no figure in: {said}").into())
}
