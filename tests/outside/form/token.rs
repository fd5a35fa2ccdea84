//! `--token`: who may send.

use std::process::Command;

use testkit::{
    Framing, LARGE, SendFirst,
    client::{FRAMINGS, Response, connect, read_response},
    outside::{Form, Trial},
};

use super::stage::{HTML, SERVED, Stage, TEXT, file, form, start_by, test};

const TOKEN: [&str; 2] = ["--token", "open-sesame"];
const RIGHT: &str = "Authorization: Bearer open-sesame";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("token_a_401_to_64_mib_sent_first_arrives", large_upload),
        test("token_401s_keep_their_connection", kept_connection),
        test("token_the_right_one_is_let_in", right),
        test("token_a_wrong_one_is_a_401", wrong),
        test("token_a_401_is_html_for_browsers", html),
        test("token_the_page_asks_for_it", page),
        test("token_without_one_everybody_may_send", not_asked_for),
        test("token_from_the_environment", environment),
        test("token_holds_with_plain_too", plain),
    ]
}

fn protected(flags: &[&str]) -> Stage {
    Stage::start(&[&TOKEN, flags].concat())
}

#[track_caller]
fn assert_challenged(response: &Response) {
    assert_eq!(response.status, 401);
    // RFC 6750, section 3: the scheme has at least one parameter.
    let challenge = response.header("www-authenticate");
    assert_eq!(challenge, Some("Bearer realm=\"upload\""));
    assert!(response.body.contains("token"), "{response:?}");
}

fn large_upload() {
    for flags in SERVED {
        let stage = protected(flags);
        for framing in FRAMINGS {
            let post = SendFirst::post("/raw", framing, LARGE);
            let put = SendFirst {
                method: "PUT",
                ..post.clone()
            };
            for upload in [SendFirst::form("/", framing, LARGE), post, put] {
                assert_challenged(&upload.to(stage.addr()).assert_delivered(401));
            }
        }
        stage.becomes_empty();
    }
}

fn kept_connection() {
    let stage = protected(&[]);
    let mut socket = connect(stage.addr());
    let upload = SendFirst::post("/raw", Framing::ContentLength, 100_000);
    for _ in 0..5 {
        upload.write(&mut socket).unwrap();
        assert_challenged(&read_response(&mut socket).unwrap());
    }
    upload.header(RIGHT).write(&mut socket).unwrap();
    assert_eq!(read_response(&mut socket).unwrap().status, 200);
}

fn right() {
    for flags in SERVED {
        let stage = protected(flags);
        for scheme in ["Bearer", "bearer", "BEARER "] {
            let response = SendFirst::post("/raw", Framing::ContentLength, 100_000)
                .header(&format!("Authorization: {scheme} open-sesame"))
                .header("Connection: close")
                .to(stage.addr())
                .assert_delivered(200);
            assert_eq!(response.body, "received 100000 bytes\n");
        }
        form(&[file("a", b"1")])
            .header(RIGHT)
            .to(stage.addr())
            .assert_delivered(200);
        assert_eq!(stage.files().len(), 1);
        // The limit also applies to clients with the token.
        SendFirst::post("/raw", Framing::ContentLength, LARGE)
            .header(RIGHT)
            .to(stage.addr())
            .assert_delivered(413);
    }
}

fn wrong() {
    let stage = protected(&[]);
    for header in [
        "Authorization: Bearer open-sesamE",
        "Authorization: Bearer open-sesam",
        "Authorization: Bearer open-sesame-",
        "Authorization: Bearer ",
        "Authorization: Bearer open sesame",
        "Authorization: open-sesame",
        "Authorization: Basic open-sesame",
        "Authorization: Bearer \u{fc}",
        "X-Authorization: Bearer open-sesame",
    ] {
        let upload = form(&[file("a", b"1")]).header(header);
        assert_challenged(&upload.to(stage.addr()).assert_delivered(401));
    }
    stage.becomes_empty();
}

fn html() {
    let stage = protected(&[]);
    for (accept, kind) in [(TEXT, "text/plain"), (HTML, "text/html")] {
        let response = form(&[file("a", b"1")])
            .header(accept)
            .to(stage.addr())
            .assert_delivered(401);
        assert!(response.header("content-type").unwrap().starts_with(kind));
        assert_challenged(&response);
    }
}

/// Anyone may open the page, and it says what sending needs.
fn page() {
    let stage = protected(&[]);
    let page = stage.get("/", HTML).assert_delivered(200);
    for expected in [
        r#"<label for="token">"#,
        r#"<input id="token" type="password""#,
        "<noscript>",
        "Authorization: Bearer",
    ] {
        assert!(page.body.contains(expected), "{expected}: {}", page.body);
    }
    assert!(!page.body.contains("open-sesame"));
    stage.get("/assets/form.js", TEXT).assert_delivered(200);
}

fn not_asked_for() {
    let stage = Stage::start(&[]);
    let page = stage.get("/", HTML).assert_delivered(200);
    assert!(!page.body.contains("token"), "{}", page.body);
    form(&[file("a", b"1")])
        .header("Authorization: Bearer whatever")
        .to(stage.addr())
        .assert_delivered(200);
}

fn environment() {
    let mut command = Command::new(Form::program());
    command.env("UPLOAD_TOKEN", "open-sesame");
    let running = start_by(command, &[]);
    let upload = SendFirst::post("/raw", Framing::ContentLength, 1).header("Connection: close");
    assert_challenged(&upload.to(running.addr()).assert_delivered(401));
    upload
        .header(RIGHT)
        .to(running.addr())
        .assert_delivered(200);
}

fn plain() {
    let stage = protected(&["--plain"]);
    let upload = form(&[file("a", b"1")]);
    assert_challenged(&upload.to(stage.addr()).assert_delivered(401));
    upload.header(RIGHT).to(stage.addr()).assert_delivered(200);
}
