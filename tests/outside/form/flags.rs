//! The other flags of the command line, and the headers of each response.

use std::process::Command;

use testkit::{
    Framing, LARGE, SendFirst,
    client::{FRAMINGS, Response},
    outside::{Form, Trial},
};

use super::stage::{HTML, SERVED, Stage, TEXT, file, form, test};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("a_413_to_64_mib_sent_first_arrives", large_upload),
        test("plain_the_same_upload_is_reset", plain),
        test("status_400_refuses_with_that", status),
        test("a_refusal_is_as_the_client_asks", negotiated),
        test("limit_is_exact_on_raw", exact_limit),
        test("limit_understands_units", units),
        test("limit_is_on_the_page_in_units", shown_limit),
        test("demo_only_offers_to_skip_the_check", demo),
        test("bad_flags_are_explained", bad_flags),
        test("the_token_is_never_shown", secret),
        test("every_response_has_the_security_headers", headers),
    ]
}

fn large_upload() {
    for flags in SERVED {
        let stage = Stage::start(flags);
        for framing in FRAMINGS {
            for upload in [
                SendFirst::form("/", framing, LARGE),
                SendFirst::post("/raw", framing, LARGE),
            ] {
                let response = upload.to(stage.addr()).assert_delivered(413);
                for expected in ["limit is 4 MiB", "Upload too large"] {
                    assert!(response.body.contains(expected), "{response:?}");
                }
            }
        }
        stage.becomes_empty();
    }
}

fn negotiated() {
    let stage = Stage::start(&[]);
    for (accept, kind) in [
        ("text/html", "text/html; charset=utf-8"),
        ("application/json", "application/problem+json"),
        ("*/*", "text/plain; charset=utf-8"),
    ] {
        let response = SendFirst::post("/raw", Framing::ContentLength, LARGE)
            .header(&format!("Accept: {accept}"))
            .to(stage.addr())
            .assert_delivered(413);
        assert_eq!(response.header("content-type"), Some(kind));
    }
}

/// Negative control of the trials above.
fn plain() {
    let stage = Stage::start(&["--plain"]);
    for upload in [
        SendFirst::form("/", Framing::ContentLength, LARGE),
        SendFirst::post("/raw", Framing::ContentLength, LARGE),
    ] {
        assert!(upload.to(stage.addr()).was_reset());
    }
}

fn status() {
    let stage = Stage::start(&["--status", "400"]);
    for framing in FRAMINGS {
        let response = SendFirst::form("/", framing, LARGE)
            .to(stage.addr())
            .assert_delivered(400);
        assert!(response.body.contains("limit is 4 MiB"), "{response:?}");
    }
    stage.becomes_empty();
}

fn exact_limit() {
    const LIMIT: u64 = 100_000;
    for flags in SERVED {
        let stage = Stage::start(&[flags, &["--limit", "100000"]].concat());
        for framing in FRAMINGS {
            let send = |length| {
                SendFirst::post("/raw", framing, length)
                    .header("Connection: close")
                    .to(stage.addr())
            };
            let response = send(LIMIT).assert_delivered(200);
            assert_eq!(response.body, "received 100000 bytes\n");
            let response = send(LIMIT + 1).assert_delivered(413);
            assert!(response.body.contains("97.6 KiB"), "{response:?}");
        }
    }
}

fn units() {
    for (limit, bytes) in [
        ("4MiB", 4_194_304),
        ("4194304", 4_194_304),
        ("500k", 500_000),
        ("1 GB", 1_000_000_000),
        ("0", 0),
    ] {
        let stage = Stage::start(&["--limit", limit]);
        let page = stage.get("/", HTML).assert_delivered(200);
        let expected = format!(r#"data-limit="{bytes}""#);
        assert!(page.body.contains(&expected), "{limit}: {}", page.body);
    }
}

fn shown_limit() {
    for (limit, shown) in [("4MiB", "4 MiB"), ("500k", "488.3 KiB"), ("1GiB", "1 GiB")] {
        let stage = Stage::start(&["--limit", limit]);
        let page = stage.get("/", HTML).assert_delivered(200);
        let expected = format!("Up to <strong>{shown}</strong> per upload, all files together.");
        assert!(page.body.contains(&expected), "{limit}: {}", page.body);
    }
}

fn demo() {
    for (flags, offered) in [(&["--demo"][..], true), (&[], false)] {
        let page = Stage::start(flags).get("/", HTML).assert_delivered(200);
        assert_eq!(page.body.contains("Send it anyway"), offered, "{flags:?}");
    }
}

/// Returns what the form prints before it exits with the status for wrong usage. If it accepted the
/// flags, it would exit with another status, because the address is reserved for documentation (RFC
/// 5737).
#[track_caller]
fn usage(command: &mut Command) -> String {
    let out = command.args(["--addr", "192.0.2.1:1"]).output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{command:?}: {said}");
    said
}

fn bad_flags() {
    let bad: [(&[&str], &str); 12] = [
        (&["--limit", "lots"], "give a number of bytes"),
        (&["--limit=-1"], "give a number of bytes"),
        (&["--limit", "1e30"], "give a number of bytes"),
        (&["--linger-bytes", "some"], "give a number of bytes"),
        (&["--linger-idle", "soon"], "expected number"),
        (&["--grace", "1"], "time unit needed"),
        (&["--stream-linger", "2"], "time unit needed"),
        (&["--status", "200"], "possible values: 400, 413"),
        (&["--addr", "localhost"], "invalid socket address"),
        (&["--token", ""], "the token is empty"),
        (&["--plain", "--hook-only"], "cannot be used with"),
        (&["--unheard-of"], "unexpected argument"),
    ];
    for (flags, words) in bad {
        let mut command = Command::new(Form::program());
        let said = usage(command.args(flags).env_remove("UPLOAD_TOKEN"));
        assert!(said.contains(words), "{flags:?}: {said}");
    }
    let said = usage(Command::new(Form::program()).env("UPLOAD_TOKEN", ""));
    assert!(said.contains("the token is empty"), "{said}");
}

/// The token appears neither in the error nor in the help.
fn secret() {
    let said = usage(Command::new(Form::program()).args(["--token", "open sesame"]));
    assert!(said.contains("without spaces"), "{said}");
    assert!(!said.contains("sesame"), "{said}");

    let mut help = Command::new(Form::program());
    let out = help.arg("--help").env("UPLOAD_TOKEN", "sesame").output();
    let said = String::from_utf8(out.unwrap().stdout).unwrap();
    assert!(said.contains("UPLOAD_TOKEN"), "{said}");
    assert!(!said.contains("sesame"), "{said}");
}

#[track_caller]
fn assert_guarded(response: &Response) {
    let policy = response.header("content-security-policy");
    assert!(policy.is_some_and(|policy| policy.starts_with("default-src 'none'; ")));
    assert!(policy.is_some_and(|policy| !policy.contains("unsafe")));
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(response.header("referrer-policy"), Some("no-referrer"));
}

fn headers() {
    let stage = Stage::start(&[]);
    for accept in [TEXT, HTML] {
        assert_guarded(&stage.get("/", accept).assert_delivered(200));
        assert_guarded(&stage.get("/nowhere", accept).assert_delivered(404));
        assert_guarded(
            &form(&[file("a", b"1")])
                .header(accept)
                .to(stage.addr())
                .assert_delivered(200),
        );
        let refused = SendFirst::form("/", Framing::ContentLength, LARGE).header(accept);
        assert_guarded(&refused.to(stage.addr()).assert_delivered(413));
        let refused = SendFirst::form("/", Framing::Chunked, LARGE).header(accept);
        assert_guarded(&refused.to(stage.addr()).assert_delivered(413));
    }
    let protected = Stage::start(&["--token", "x"]);
    let refused = form(&[file("a", b"1")]).to(protected.addr());
    assert_guarded(&refused.assert_delivered(401));
}
