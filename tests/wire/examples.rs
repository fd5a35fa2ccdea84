//! Runs the examples as executables. Each enforces the limit that it sets, and no smaller limit of
//! axum's applies. `minimal` is the example of the front page.
#![cfg(all(feature = "axum", feature = "axum-server", feature = "tonic"))]

use std::{fs, process::Command};

use testkit::{
    MIB, SendFirst,
    client::{FRAMINGS, Framing, Response},
    outside::{Form, example, repository, succeed},
    tls::Connector,
};

/// More than the 2 MB that axum's extractors admit by default.
const MB_3: u64 = 3_000_000;

fn start(name: &str, flags: &[&str]) -> Form {
    let mut command = Command::new(example(name));
    // Colour codes would split the words of a line.
    command.env("NO_COLOR", "1");
    Form::start_with(command, flags)
}

/// Sends a body to `/`, over TCP or TLS.
#[track_caller]
fn post(running: &Form, framing: Framing, length: u64, status: u16) -> Response {
    let upload = SendFirst::post("/", framing, length)
        .header("Connection: close")
        .header("Origin: http://elsewhere");
    let outcome = match running.url.starts_with("https:") {
        true => upload.over(Connector::trusting_anyone().connect(running.addr())),
        false => upload.to(running.addr()),
    };
    outcome.assert_delivered(status)
}

/// Sends a body above 2 MB and one of exactly the limit, which must pass. One byte more must be
/// refused, in the words of the limit layer.
#[track_caller]
fn holds(running: &Form, limit: u64, limit_in_words: &str) {
    for framing in FRAMINGS {
        for length in [MB_3, limit] {
            let counted = post(running, framing, length, 200).body;
            assert_eq!(counted.trim_end_matches(" bytes\n"), length.to_string());
        }
        let refused = post(running, framing, limit + 1, 413).body;
        assert!(refused.contains(limit_in_words), "{refused}");
    }
}

#[test]
fn minimal_holds_its_limit() {
    holds(&start("minimal", &["127.0.0.1:0"]), 100 * MIB, "100 MiB");
}

#[test]
fn accept_loop_holds_its_limit() {
    for flags in [&["127.0.0.1:0"][..], &["127.0.0.1:0", "--tls"]] {
        holds(&start("accept_loop", flags), 4 * MIB, "4 MiB");
    }
}

#[test]
fn axum_server_holds_its_limit() {
    holds(&start("axum_server", &["127.0.0.1:0"]), 4 * MIB, "4 MiB");
}

#[test]
fn upload_form_holds_its_limit() {
    let running = Form::start(&["--limit", "4MiB"]);
    for framing in FRAMINGS {
        let upload = |path, length| {
            let upload = SendFirst::post(path, framing, length).header("Connection: close");
            upload.to(running.addr())
        };
        for length in [MB_3, 4 * MIB] {
            upload("/raw", length).assert_delivered(200);
        }
        let refused = upload("/raw", 4 * MIB + 1).assert_delivered(413).body;
        assert!(refused.contains("4 MiB"), "{refused}");
    }
}

#[test]
fn grpc_upload_holds_its_limit() {
    let running = start("grpc_upload", &["--addr", "127.0.0.1:0", "--limit", "4MiB"]);
    let call = |size: &str| {
        let mut client = Command::new(example("grpc_upload"));
        client.args([
            "--addr",
            &running.addr().to_string(),
            "--client",
            "--size",
            size,
        ]);
        succeed(&mut client)
    };
    assert_eq!(call("3MB").unwrap(), "3000000 bytes\n");
    let refused = call("5MB").unwrap_err();
    let refused = refused.message().unwrap();
    assert!(refused.contains("4 MiB"), "{refused}");
}

#[test]
fn minimal_413_has_cors_headers_and_a_log_line() {
    let running = start("minimal", &["127.0.0.1:0"]);
    let refused = post(&running, Framing::ContentLength, 100 * MIB + 1, 413);
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"));
    let line = running.prints("status=413");
    assert!(line.contains("method=POST"), "{line}");
}

/// The README and the crate documentation show the app with its comments.
#[test]
fn front_page_shows_the_app_of_minimal() {
    let read = |file| fs::read_to_string(repository(file)).unwrap();
    let minimal = read("examples/minimal.rs");
    let app = minimal.find("fn app()").and_then(|start| {
        let app = &minimal[start..];
        app.find("\n}\n").map(|end| &app[..end + 3])
    });
    let app = app.expect("it has a function `app`");
    assert!(read("README.md").contains(app), "{app}");
    let app: String = app.lines().map(|line| format!("//! {line}\n")).collect();
    assert!(read("src/lib.rs").contains(&app), "{app}");
}
