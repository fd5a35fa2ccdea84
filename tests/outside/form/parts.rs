//! Requests that are no form, or too large a form. Each gets its status and advice, and nothing is
//! stored.

use testkit::{Framing, SendFirst, outside::Trial};

use super::stage::{Stage, exactly, file, form, test, text};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("a_form_without_a_file_is_a_400", no_file),
        test("a_name_with_a_nul_is_a_400", nul_in_a_name),
        test("a_form_of_101_parts_is_a_400", too_many_parts),
        test("a_text_field_that_is_too_long_is_a_400", too_much_text),
        test("a_truncated_form_is_a_400", truncated),
        test("what_is_no_form_is_a_400", no_form),
    ]
}

/// Asserts that the response is a 400 with this text, and that nothing is left behind.
#[track_caller]
fn refused(request: &SendFirst, words: &[&str]) {
    let stage = Stage::start(&[]);
    let response = request.to(stage.addr()).assert_delivered(400);
    for expected in words {
        assert!(response.body.contains(expected), "{expected}: {response:?}");
    }
    stage.becomes_empty();
}

fn no_file() {
    let words = ["No file was chosen", "Choose at least one"];
    refused(&form(&[]), &words);
    refused(&form(&[text("a note")]), &words);
    // Browsers send this if no file was chosen.
    refused(&form(&[file("", b"")]), &words);
}

fn nul_in_a_name() {
    let parts = [file("good.jpg", b"1"), file("bad\0.jpg", b"2")];
    refused(&form(&parts), &["names of its files"]);
}

fn too_many_parts() {
    let words = ["more than 100 parts", "Send fewer files"];
    let files: Vec<_> = (0..101).map(|n| file(&n.to_string(), b"1")).collect();
    refused(&form(&files), &words);
    refused(&form(&vec![text(""); 101]), &words);

    let stage = Stage::start(&[]);
    form(&files[1..]).to(stage.addr()).assert_delivered(200);
    assert_eq!(stage.files().len(), 100);
}

fn too_much_text() {
    let long = |length| form(&[file("a", b"1"), text(&"x".repeat(length))]);
    refused(&long(16_385), &["more than 16384 bytes", "Send less text"]);

    let stage = Stage::start(&[]);
    long(16_384).to(stage.addr()).assert_delivered(200);
}

/// The request is whole, but the form in it is not.
fn truncated() {
    let words = ["The form cannot be read", "Check it"];
    let whole = [file("a", b"1"), file("b", b"2")].concat();
    for cut in [whole.len() - 2, whole.len() - 20, whole.len() / 2 + 2] {
        refused(&exactly(&whole[..cut]), &words);
    }
}

fn no_form() {
    let plain = SendFirst::post("/", Framing::ContentLength, 100)
        .header("Connection: close")
        .header("Content-Type: text/plain");
    refused(&plain, &["is not a form", "multipart/form-data"]);
}
