//! The upload form in headless browsers, driven by `tests/browser/form.mjs`. The scenarios run over
//! HTTP/1.1. Those that concern the connection also run over TLS, with HTTP/2. A few scenarios put
//! an nginx in front of the form, with a smaller limit than the form's. One scenario is that of
//! docs/STORY.md, whose form refuses with 400. As its negative control, Firefox reports a network
//! error with `--plain`.
//!
//! `npm ci --prefix tests/browser` installs the driver. Chromium and Firefox come from the system.
//! Screenshots go to the folder that `SHOTS` names.

use std::{
    env,
    path::Path,
    process::Command,
    sync::{Arc, LazyLock},
};

use libtest_mimic::Failed;
use testkit::{
    outside::{Form, Need, Trial, find, repository, succeed, trial},
    proxy::{Kind, Proxy},
};

/// The browsers by their names in form.mjs, with the names of their programs.
const BROWSERS: [(&str, &[&str]); 2] = [
    (
        "chromium",
        &["chromium", "chromium-browser", "google-chrome"],
    ),
    ("firefox", &["firefox-esr", "firefox"]),
];

/// The scenario of docs/STORY.md.
const STORY: &str = "no-js-refusal-400";

struct Forms {
    http: Form,
    https: Form,
    /// The form of docs/STORY.md.
    story: Form,
    /// The same form without this crate.
    plain: Form,
    /// The proxy in front of `http`. `None` if this machine has no nginx.
    nginx: Option<Proxy>,
}

impl Forms {
    fn start() -> Self {
        let story = ["--limit", "4MiB", "--status", "400"];
        let http = Form::start(&["--limit", "4MiB", "--demo"]);
        let has_nginx = !Kind::NginxLimited.need().missing;
        Self {
            nginx: has_nginx.then(|| Proxy::start(Kind::NginxLimited, &[http.addr()])),
            https: Form::start(&["--limit", "4MiB", "--demo", "--tls"]),
            story: Form::start(&story),
            plain: Form::start(&[&story[..], &["--plain"]].concat()),
            http,
        }
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let driver = [
        Need::program("node"),
        Need {
            name: "no driver: `npm ci --prefix tests/browser`".to_owned(),
            missing: !repository("tests/browser/node_modules/puppeteer-core").exists(),
        },
    ];
    // The last trial drops them, which ends their processes.
    let forms = Arc::new(LazyLock::new(Forms::start as _));
    BROWSERS
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
            scenarios_of(browser, &needs, &forms)
        })
        .collect()
}

fn scenarios_of(browser: &'static str, needs: &[Need], forms: &Arc<LazyLock<Forms>>) -> Vec<Trial> {
    if needs.iter().any(|need| need.missing) {
        return vec![trial(browser, needs, || Ok(()))];
    }
    let over_http = list(browser, &[]).into_iter().map(|scenario| {
        let forms = Arc::clone(forms);
        trial(format!("{browser}_{scenario}"), needs, move || {
            play(browser, &scenario, &[&forms.http.url])
        })
    });
    let over_tls = list(browser, &["--tls"]).into_iter().map(|scenario| {
        let forms = Arc::clone(forms);
        trial(format!("{browser}_tls_{scenario}"), needs, move || {
            play(browser, &scenario, &[&forms.https.url])
        })
    });
    let story = trial(format!("{browser}_{STORY}"), needs, {
        let forms = Arc::clone(forms);
        move || {
            let urls = [&forms.story.url, "--plain", &forms.plain.url];
            play(browser, STORY, &urls)
        }
    });
    let with_nginx = [needs, &[Kind::NginxLimited.need()]].concat();
    let behind_nginx = list(browser, &["--nginx"]).into_iter().map(|scenario| {
        let forms = Arc::clone(forms);
        trial(format!("{browser}_{scenario}"), &with_nginx, move || {
            let nginx = forms.nginx.as_ref().expect("the trial needs it");
            play(browser, &scenario, &[&nginx.url()])
        })
    });
    over_http
        .chain(over_tls)
        .chain([story])
        .chain(behind_nginx)
        .collect()
}

fn list(browser: &str, flags: &[&str]) -> Vec<String> {
    let listed = succeed(driver().args(["--list", "--browser", browser]).args(flags));
    let names = listed.unwrap_or_else(|error| panic!("{}", error.message().unwrap_or_default()));
    names.lines().map(str::to_owned).collect()
}

/// Plays a scenario at a URL, which other arguments may follow.
fn play(browser: &str, scenario: &str, url: &[&str]) -> Result<(), Failed> {
    let thrown_away;
    let shots = match env::var_os("SHOTS") {
        Some(folder) => Path::new(&folder).join(browser),
        None => {
            thrown_away = tempfile::tempdir()?;
            thrown_away.path().to_owned()
        }
    };
    let mut play = driver();
    play.args(["--browser", browser, "--scenario", scenario, "--url"]);
    play.args(url);
    succeed(play.arg("--shots").arg(shots)).map(drop)
}

fn driver() -> Command {
    let mut node = Command::new("node");
    node.arg(repository("tests/browser/form.mjs"));
    node
}
