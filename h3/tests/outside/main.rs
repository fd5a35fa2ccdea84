//! Clients from outside against this crate: each reads every early response, in each of several
//! tries (`TRIES`, 3 if not set).

#[path = "../support/clients.rs"]
mod clients;
#[path = "../support/h3_client.rs"]
mod h3_client;
#[path = "../support/servers.rs"]
mod servers;

use std::{env, process::Command, time::Duration};

use libtest_mimic::Failed;
use testkit::outside::{Form, Need, Trial, repository, succeed, trial};

use clients::{CLIENTS, Client, LOOPS, PATIENCE};
use servers::Loop;

/// The browsers, which take longest, begin first.
fn main() {
    testkit::outside::run(&[("controls", controls), ("form", form), ("clients", trials)]);
}

fn tries() -> usize {
    let tries = env::var("TRIES").ok();
    tries.map_or(3, |tries| tries.parse().expect("TRIES is a number"))
}

fn is_browser(client: Client) -> bool {
    matches!(client, Client::Chromium | Client::Firefox)
}

fn trials() -> Vec<Trial> {
    let (browsers, others): (Vec<_>, Vec<_>) =
        CLIENTS.into_iter().partition(|client| is_browser(*client));
    let clients = browsers.into_iter().chain(others);
    clients.flat_map(trials_of).collect()
}

/// Returns a trial for each scenario of a client. A browser plays all in one: its start takes long.
fn trials_of(client: Client) -> Vec<Trial> {
    let needs = client.needs();
    let scenarios = client.scenarios();
    let one_at_a_time = scenarios.chunks(match is_browser(client) {
        true => usize::MAX,
        false => 1,
    });
    one_at_a_time
        .map(|scenarios| {
            let scenarios = scenarios.to_vec();
            let name = match scenarios[..] {
                [scenario] => format!("{}_{scenario}", client.name()),
                _ => client.name().to_owned(),
            };
            trial(name, &needs, move || {
                let seen = client.play(
                    Loop::Ours,
                    &scenarios.repeat(tries()),
                    Duration::from_secs(60),
                )?;
                let failed: Vec<_> = seen.into_iter().filter_map(Result::err).collect();
                match failed.is_empty() {
                    true => Ok(()),
                    false => Err(Failed::from(failed.join("\n"))),
                }
            })
        })
        .collect()
}

/// h3-axum alone loses responses to the clients that are strict, so that the tests above could
/// fail. With delivery around its app it does not.
fn controls() -> Vec<Trial> {
    let lost_and_kept = |client: Client, scenario: &'static str| {
        let name = format!("{}_{scenario}", client.name());
        trial(name, &client.needs(), move || {
            // The client gives up by itself, or never does.
            let [alone, with_layer, ours] =
                LOOPS.map(|which| client.play(which, &[scenario], PATIENCE));
            match (alone?.remove(0), with_layer?.remove(0), ours?.remove(0)) {
                (Err(_), Ok(()), Ok(())) => Ok(()),
                other => Err(format!("{other:?}").into()),
            }
        })
    };
    vec![
        lost_and_kept(Client::Chromium, "413_fetch_20MB"),
        lost_and_kept(Client::Firefox, "413_fetch_20MB"),
        lost_and_kept(Client::H3, "413_declared"),
        lost_and_kept(Client::Curl, "get"),
    ]
}

/// The upload form: a browser comes over TCP, switches to HTTP/3 by itself, and shows the refusal.
fn form() -> Vec<Trial> {
    let executable = Need {
        name: "no form: `cargo build --example upload_form --features axum`".to_owned(),
        missing: !form_is_built(),
    };
    let shows = |client: Client| {
        let needs = [&client.needs()[..], std::slice::from_ref(&executable)].concat();
        let name = format!("{}_switches_and_shows_the_refusal", client.name());
        trial(name, &needs, move || {
            let form = Form::start(&["--tls", "--http3", "--limit", "4MiB"]);
            let mut driver = Command::new("node");
            driver.arg(repository("h3/tests/outside/form.mjs"));
            driver.args([client.name(), &form.addr().port().to_string()]);
            succeed(&mut driver).map(drop)
        })
    };
    vec![shows(Client::Chromium), shows(Client::Firefox)]
}

/// `cargo test -p tower-bodyguard-h3` does not build the example of another package.
fn form_is_built() -> bool {
    let test = env::current_exe().expect("a running test has a path");
    let target = test.ancestors().nth(2).expect("target/debug/deps/test");
    target.join("examples/upload_form").exists()
}
