//! The program: exit statuses, and the forms of its report.

use std::{
    fs,
    net::SocketAddr,
    process::{Command, Output},
};

use early_response_probe::Client;
use serde_json::Value;
use testkit::outside::{Trial, trial};

use crate::{
    broken,
    stage::{Server, options, run},
};

pub(crate) fn trials() -> Vec<Trial> {
    let test = |name: &str, test: fn()| {
        trial(name, &[], move || {
            test();
            Ok(())
        })
    };
    vec![
        test("status_is_0_if_each_response_arrives", || {
            let good = Server::good();
            let out = program(good.addr, &["--expect-status", "413"]);
            assert_status(&out, 0);
            assert!(stdout(&out).contains("All 2 clients received each response."));
        }),
        test("status_is_1_if_a_response_is_lost", || {
            let out = program(broken::resets_without_a_response(), &[]);
            assert_status(&out, 1);
            let text = stdout(&out);
            for words in [
                "The response was lost",
                "RFC 9112 §9.6",
                "Mend: Close in stages",
            ] {
                assert!(text.contains(words), "{text}");
            }
            assert!(
                !text.contains('\u{1b}'),
                "colours without a terminal: {text:?}"
            );
        }),
        test("status_is_2_if_there_is_no_server", || {
            let [nowhere] = testkit::proxy::free_addrs();
            let out = program(nowhere, &[]);
            assert_status(&out, 2);
            assert!(
                stderr(&out).contains("Does the server run?"),
                "{}",
                stderr(&out)
            );
        }),
        test("status_is_3_if_nothing_was_judged", || {
            let good = Server::good();
            assert_status(&program(good.addr, &["--size", "1k"]), 3);
            let some = ["--max-volume", "65MiB"];
            assert_status(&program(good.addr, &some), 3);
        }),
        test("untrusted_certificate_is_refused", || {
            let good = Server::good_with_tls();
            let url = format!("https://localhost:{}/", good.addr.port());
            let out = probe(&[&url]);
            assert_status(&out, 2);
            assert!(stderr(&out).contains("--insecure"), "{}", stderr(&out));
        }),
        test("other_machine_needs_yes", || {
            // An address for documentation, which is never reached: RFC 5737.
            let out = probe(&["http://192.0.2.1/", "--size", "1GiB"]);
            assert_status(&out, 2);
            let words = stderr(&out);
            for part in ["192.0.2.1", "16 GiB", "--yes"] {
                assert!(words.contains(part), "{words}");
            }
        }),
        test("json_has_what_the_library_reports", json),
        test("junit_has_a_case_for_each_client", junit),
        test("markdown_has_a_table", || {
            let good = Server::good();
            let text = stdout(&program(good.addr, &["--markdown"]));
            assert!(text.starts_with("| client "), "{text}");
            assert!(text.lines().nth(1).unwrap().starts_with("|--"), "{text}");
        }),
    ]
}

fn json() {
    let server = broken::resets_without_a_response();
    let out = program(server, &["--json"]);
    assert_status(&out, 1);
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    let own = run(
        &format!("http://{server}/"),
        &options(&[Client::SendsFirst, Client::Stops]),
    );
    let own = serde_json::to_value(&own).unwrap();
    assert_eq!(report["findings"], own["findings"]);
    assert_eq!(report["clients"][0]["client"], "sends-first");
    assert_eq!(report["clients"][0]["runs"][0]["outcome"], "lost");
    let schema: Value = serde_json::from_str(include_str!("../../report.schema.json")).unwrap();
    let required = schema["required"].as_array().unwrap();
    for member in required {
        assert!(report.get(member.as_str().unwrap()).is_some(), "{member}");
    }
}

fn junit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("junit.xml");
    let out = program(
        broken::resets_without_a_response(),
        &["--junit", file.to_str().unwrap()],
    );
    assert_status(&out, 1);
    let xml = fs::read_to_string(file).unwrap();
    assert_eq!(xml.matches("<testcase ").count(), 2, "{xml}");
    assert!(
        xml.contains(r#"<failure message="The response was lost""#),
        "{xml}"
    );
}

/// Runs the program with one upload by each of two clients.
fn program(addr: SocketAddr, arguments: &[&str]) -> Output {
    let url = format!("http://{addr}/");
    let common = [&url, "--runs", "1", "--only", "sends-first,stops"];
    probe(&[&common, arguments].concat())
}

fn probe(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_early-response-probe");
    Command::new(program).args(arguments).output().unwrap()
}

#[track_caller]
fn assert_status(out: &Output, status: i32) {
    let text = [stdout(out), stderr(out)].concat();
    assert_eq!(out.status.code(), Some(status), "{text}");
}

fn stdout(out: &Output) -> String {
    String::from_utf8(out.stdout.clone()).unwrap()
}

fn stderr(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).unwrap()
}
