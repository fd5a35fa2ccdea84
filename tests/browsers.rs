//! The upload form in headless browsers, driven by `tests/browser/form.mjs`.
//!
//! `npm ci --prefix tests/browser` installs the driver; Chromium and Firefox come
//! from the system. Screenshots go to the folder that `SHOTS` names.

mod support;

use std::{env, path::Path, process::Command, sync::Arc};

use libtest_mimic::{Arguments, Failed, Trial};
use support::outside::{Form, Need, find, repository, succeed, trial};

/// By the names that form.mjs has for them, and those of their programs.
const BROWSERS: [(&str, &[&str]); 2] = [
    (
        "chromium",
        &["chromium", "chromium-browser", "google-chrome"],
    ),
    ("firefox", &["firefox-esr", "firefox"]),
];

fn main() {
    let driver = [
        Need::program("node"),
        Need {
            name: "no driver: `npm ci --prefix tests/browser`".to_owned(),
            missing: !repository("tests/browser/node_modules/puppeteer-core").exists(),
        },
    ];
    let form = Arc::new(Form::start(&["--limit", "4MiB"]));
    let trials = BROWSERS
        .into_iter()
        .flat_map(|(browser, programs)| {
            let [node, package] = &driver;
            let needs = [
                node.clone(),
                package.clone(),
                Need {
                    name: format!("no {browser} on the PATH"),
                    missing: !programs.iter().any(|program| find(program).is_some()),
                },
            ];
            scenarios_of(browser, &needs, &form)
        })
        .collect();
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    // Before the exit, which runs no destructors: the form is a process.
    drop(Arc::into_inner(form));
    conclusion.exit();
}

fn scenarios_of(browser: &'static str, needs: &[Need], form: &Arc<Form>) -> Vec<Trial> {
    if needs.iter().any(|need| need.missing) {
        return vec![trial(browser, needs, || Ok(()))];
    }
    let listed = succeed(driver().args(["--list", "--browser", browser]));
    let names = listed.unwrap_or_else(|error| panic!("{}", error.message().unwrap_or_default()));
    names
        .lines()
        .map(|scenario| {
            let (scenario, form) = (scenario.to_owned(), Arc::clone(form));
            trial(format!("{browser}_{scenario}"), needs, move || {
                play(browser, &scenario, &form.url)
            })
        })
        .collect()
}

fn play(browser: &str, scenario: &str, url: &str) -> Result<(), Failed> {
    let thrown_away;
    let shots = match env::var_os("SHOTS") {
        Some(folder) => Path::new(&folder).join(browser),
        None => {
            thrown_away = tempfile::tempdir()?;
            thrown_away.path().to_owned()
        }
    };
    let mut play = driver();
    play.args(["--url", url, "--browser", browser, "--scenario", scenario]);
    succeed(play.arg("--shots").arg(shots)).map(drop)
}

fn driver() -> Command {
    let mut node = Command::new("node");
    node.arg(repository("tests/browser/form.mjs"));
    node
}
