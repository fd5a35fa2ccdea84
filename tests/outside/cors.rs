//! The part of a refusal that a script of another origin can read, in headless Chromium, driven by
//! `tests/browser/cors.mjs`.
//!
//! `npm ci --prefix tests/browser` installs the driver; Chromium comes from the system.

use std::process::Command;

use axum::{Router, response::Html, routing::get};
use libtest_mimic::Failed;
use serde_json::Value;
use testkit::{
    MIB,
    outside::{Need, Trial, find, repository, succeed, trial},
};
use tower::ServiceBuilder;
use tower_bodyguard::BodyGuardLayer;
use tower_http::cors::CorsLayer;

use crate::server::{Server, counting};

pub(crate) fn trials() -> Vec<Trial> {
    let needs = [
        Need::program("node"),
        Need {
            name: "no driver: `npm ci --prefix tests/browser`".to_owned(),
            missing: !repository("tests/browser/node_modules/puppeteer-core").exists(),
        },
        Need {
            name: "no chromium on the PATH".to_owned(),
            missing: !["chromium", "chromium-browser", "google-chrome"]
                .iter()
                .any(|program| find(program).is_some()),
        },
    ];
    vec![
        outside("cors_outside_lets_scripts_read_the_refusal", &needs, ""),
        outside("and_after_a_preflight", &needs, "image/png"),
        trial("cors_inside_hides_the_refusal", &needs, hidden),
    ]
}

fn guard() -> BodyGuardLayer {
    BodyGuardLayer::new(4 * MIB)
}

fn outside(name: &str, needs: &[Need], kind: &'static str) -> Trial {
    trial(name, needs, move || {
        let app = counting().layer(guard()).layer(CorsLayer::permissive());
        for server in Server::both(&app) {
            let seen = upload(&server, kind)?;
            let words = "Upload too large: 19.1 MiB. The limit is 4 MiB. Choose a smaller file.\n";
            expect(&seen, "status", &413.into())?;
            expect(&seen, "text", &words.into())?;
        }
        Ok(())
    })
}

/// Negative control: only the order of the layers differs, and the script can read nothing.
fn hidden() -> Result<(), Failed> {
    let stack = ServiceBuilder::new()
        .layer(guard())
        .layer(CorsLayer::permissive());
    for server in Server::both(&counting().layer(stack)) {
        let seen = upload(&server, "")?;
        expect(&seen, "error", &"TypeError: Failed to fetch".into())?;
    }
    Ok(())
}

/// Uploads 20 MB from another origin and returns what the script sees.
fn upload(server: &Server, kind: &str) -> Result<Value, Failed> {
    let page = Server::plain(Router::new().route("/", get(|| async { Html("<!doctype html>") })));
    let mut node = Command::new("node");
    node.arg(repository("tests/browser/cors.mjs"))
        .args(["--page", &format!("http://{}/", page.addr)])
        .args(["--to", &format!("http://{}/", server.addr)])
        .args(["--type", kind]);
    Ok(serde_json::from_str(&succeed(&mut node)?)?)
}

fn expect(seen: &Value, what: &str, expected: &Value) -> Result<(), Failed> {
    if seen.get(what) == Some(expected) {
        return Ok(());
    }
    Err(format!("expected {what} to be {expected}, seen: {seen}").into())
}
