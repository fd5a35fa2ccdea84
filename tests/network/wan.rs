//! A network with 100 ms and 20 Mbit/s, where a reset overtakes the response. The server's kernel
//! counts the resets that it sends. With `LingerIo` there are none. Without it there are some,
//! which is the negative control. Browsers connect over TLS, so they use HTTP/2. They show the
//! refusal of a large upload long before it could have been sent.
//!
//! Needs root for its network namespaces, and a program that runs a command between two of them.
//! `WAN` names the program. Its arguments are `--rtt`, `--rate` and `--`. It sets `WAN_CLIENT`,
//! `WAN_SERVER` and `WAN_SERVER_IP` for the command. For the browsers see `browsers.rs`.

use std::{
    env,
    path::PathBuf,
    process::{Command, exit},
    str::FromStr,
};

use libtest_mimic::Failed;

use testkit::outside::{Form, Need, Trial, file_of, find, repository, succeed, trial};

/// The tries of each client in one run.
const TRIES: usize = 3;

/// The upload size of a browser.
const UPLOAD: u32 = 200_000_000;

/// The rate in Mbit/s.
const RATE: u32 = 20;

/// The round trip in ms.
const ROUND_TRIP: u32 = 100;

/// Plays the role that this process was started for inside the network. Returns whether there is
/// one.
pub(crate) fn plays_a_role() -> bool {
    let Some(mode) = env::var_os("WAN_MODE") else {
        return false;
    };
    let mode = mode.into_string().expect("set below");
    let said = match mode.as_str() {
        "hooked" | "plain" => upload_inside(&mode),
        browser => browse_inside(browser),
    };
    match said {
        Ok(said) => println!("{said}"),
        Err(error) => {
            eprintln!("{}", error.message().unwrap_or("failed"));
            exit(1);
        }
    }
    true
}

pub(crate) fn trials() -> Vec<Trial> {
    let network = [
        Need::root(),
        Need::program("ip"),
        Need::file(&emulator()),
        Need::file("/dev/net/tun".as_ref()),
    ];
    let clients = ["nstat", "curl", "wget", "python3"].map(Need::program);
    let needs = [&network[..], &clients].concat();
    let mut trials = vec![
        trial("with_the_wrapper_no_reset_is_sent", &needs, || {
            let seen = Seen::across("hooked")?;
            match (seen.responses, seen.resets) {
                (responses, 0) if responses == seen.tries => Ok(()),
                _ => Err(format!("{seen:?}").into()),
            }
        }),
        trial(
            "without_the_wrapper_the_meter_counts_resets",
            &needs,
            || {
                let seen = Seen::across("plain")?;
                match seen.resets {
                    0 => Err(format!("{seen:?}").into()),
                    _ => Ok(()),
                }
            },
        ),
    ];
    trials.push(refused_early(
        "chromium",
        &["chromium", "chromium-browser", "google-chrome"],
        &network,
    ));
    trials.push(refused_early(
        "firefox",
        &["firefox-esr", "firefox"],
        &network,
    ));
    trials
}

/// Tests that the page shows the refusal in less than a quarter of the upload's time, with the
/// form's script and without.
fn refused_early(browser: &'static str, programs: &[&str], network: &[Need]) -> Trial {
    let driver = [
        Need::program("node"),
        Need {
            name: "no driver: `npm ci --prefix tests/browser`".to_owned(),
            missing: !repository("tests/browser/node_modules/puppeteer-core").exists(),
        },
        Need {
            name: format!("no {browser} on the PATH"),
            missing: !programs.iter().any(|program| find(program).is_some()),
        },
    ];
    let needs = [network, &driver].concat();
    let name = format!("{browser}_over_tls_sees_the_refusal_of_200_mb_long_before_it_is_sent");
    trial(name, &needs, move || {
        let whole = f64::from(UPLOAD) * 8.0 / (f64::from(RATE) * 1e6);
        let said = across(browser)?;
        println!("{browser}: {} s, of {whole} s", said.trim());
        for way in ["script", "bare"] {
            let seconds: f64 = figure(&said, way).ok_or_else(|| format!("no figure in: {said}"))?;
            if seconds > whole / 4.0 {
                return Err(format!("{way}: {seconds} s, of {whole} s").into());
            }
        }
        Ok(())
    })
}

fn emulator() -> PathBuf {
    env::var_os("WAN").map_or_else(|| repository("../shared/wan/wan.py"), PathBuf::from)
}

#[derive(Debug)]
struct Seen {
    tries: usize,
    responses: usize,
    resets: usize,
}

impl Seen {
    fn across(mode: &str) -> Result<Self, Failed> {
        let said = across(mode)?;
        let seen = || {
            Some(Self {
                tries: figure(&said, "tries")?,
                responses: figure(&said, "responses")?,
                resets: figure(&said, "resets")?,
            })
        };
        seen().ok_or_else(|| format!("no figures in: {said}").into())
    }
}

/// Returns the word after the name.
fn figure<T: FromStr>(said: &str, name: &str) -> Option<T> {
    let mut words = said.split_whitespace().skip_while(|word| *word != name);
    words.nth(1)?.parse().ok()
}

fn across(mode: &str) -> Result<String, Failed> {
    let [round_trip, rate] = [ROUND_TRIP, RATE].map(|figure| figure.to_string());
    succeed(
        Command::new(emulator())
            .args(["--rtt", &round_trip, "--rate", &rate, "--"])
            .arg(env::current_exe()?)
            .env("WAN_MODE", mode),
    )
}

/// Runs inside the network: a form with TLS in the server's namespace, a browser in the other.
fn browse_inside(browser: &str) -> Result<String, Failed> {
    let [client, server, ip] = ["WAN_CLIENT", "WAN_SERVER", "WAN_SERVER_IP"].map(env::var);
    let (client, server, ip) = (client?, server?, ip?);
    let mut form = within(&server);
    form.arg(Form::program());
    let flags = ["--limit", "4MiB", "--demo", "--tls"];
    let form = Form::start_by(form, &format!("{ip}:3000"), &flags);

    let mut driver = within(&client);
    driver
        .arg("node")
        .arg(repository("tests/browser/wan.mjs"))
        .args(["--url", &form.url, "--browser", browser])
        .args(["--size", &UPLOAD.to_string()]);
    succeed(&mut driver)
}

/// Runs inside the network: a form in the server's namespace, clients in the other.
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
    let mut responses = 0;
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
            responses += usize::from(String::from_utf8_lossy(&said).contains("413"));
        }
    }
    let resets = resets(&server)? - resets_before;
    Ok(format!(
        "tries {tries} responses {responses} resets {resets}"
    ))
}

fn within(namespace: &str) -> Command {
    let mut ip = Command::new("ip");
    ip.args(["netns", "exec", namespace]);
    ip
}

/// Returns `TcpOutRsts` of the namespace's kernel counters.
fn resets(namespace: &str) -> Result<usize, Failed> {
    let said = succeed(within(namespace).args(["nstat", "-asz", "TcpOutRsts"]))?;
    let line = said.lines().find(|line| line.starts_with("TcpOutRsts"));
    let figure = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    figure
        .map(|figure| figure as usize)
        .ok_or_else(|| format!("no figure in: {said}").into())
}
