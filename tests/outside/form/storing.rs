//! Stored files, the response to an upload, and a full disk.

use std::{fs, path::PathBuf, process::Command};

use libtest_mimic::Failed;
use sha2::{Digest as _, Sha256};
use testkit::{
    Framing, LARGE, MIB, SendFirst,
    outside::{Form, Need, Trial, file_of, succeed, trial, until},
};

use super::stage::{HTML, SERVED, Stage, TEXT, file, files_in, form, start_by, test};

pub(crate) fn trials() -> Vec<Trial> {
    let namespace = Need::check(
        "no mount namespaces",
        Command::new("unshare").args(["--mount", "true"]),
    );
    vec![
        test("a_file_is_stored_and_listed_as_text", listed_as_text),
        test("a_file_is_stored_and_listed_as_html", listed_as_html),
        test("files_of_one_form_are_stored_together", together),
        trial("curls_form_is_stored", &[Need::program("curl")], from_curl),
        test("a_hostile_name_is_only_ever_shown", hostile_names),
        test("a_missing_folder_is_a_500", missing_folder),
        trial(
            "a_full_disk_is_a_507_that_arrives",
            &[Need::root(), Need::program("unshare"), namespace],
            full_disk,
        ),
    ]
}

fn sha256(content: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(content))
}

/// Returns the only file. Its name was chosen by the server.
#[track_caller]
fn only_file(stage: &Stage) -> PathBuf {
    let files = stage.files();
    let [file] = &files[..] else {
        panic!("not one file: {files:?}");
    };
    assert!(file.starts_with(stage.around.path().join("a/b/files")));
    let name = file.file_name().unwrap().to_str().unwrap();
    let random = name.strip_prefix("upload-").unwrap_or_default();
    assert!(random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    file.clone()
}

fn listed_as_text() {
    let stage = Stage::start(&[]);
    let content = b"some bytes\0of any kind\r\n";
    let response = form(&[file("holiday.jpg", content)])
        .header(TEXT)
        .to(stage.addr())
        .assert_delivered(200);
    let expected = format!("{}  24 bytes  holiday.jpg\n", sha256(content));
    assert_eq!(response.body, expected);
    assert_eq!(fs::read(only_file(&stage)).unwrap(), content);
}

fn listed_as_html() {
    let stage = Stage::start(&[]);
    let content = vec![7; 100_000];
    let response = form(&[file("holiday.jpg", &content)])
        .header(HTML)
        .to(stage.addr())
        .assert_delivered(200);
    let hash = sha256(&content);
    for expected in ["holiday.jpg", "97.7 KiB", &hash] {
        assert!(response.body.contains(expected), "{expected}: {response:?}");
    }
    assert_eq!(fs::read(only_file(&stage)).unwrap(), content);
}

fn together() {
    let stage = Stage::start(&[]);
    let parts = [file("a", b"1"), file("", b""), file("a", b"22")];
    let response = form(&parts).to(stage.addr()).assert_delivered(200);
    let expected = format!(
        "{}  1 bytes  a\n{}  2 bytes  a\n",
        sha256(b"1"),
        sha256(b"22")
    );
    assert_eq!(response.body, expected);
    assert_eq!(stage.files().len(), 2);
}

fn from_curl() -> Result<(), Failed> {
    let stage = Stage::start(&[]);
    let source = tempfile::tempdir()?;
    let sent = file_of(source.path(), 3_000_000);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "60"]);
    curl.arg("--form")
        .arg(format!("photopicker=@{}", sent.display()));
    let said = succeed(curl.arg(&stage.form.url))?;
    let content = fs::read(sent)?;
    let expected = format!("{}  3000000 bytes  3000000.bin\n", sha256(&content));
    assert_eq!(said, expected);
    assert_eq!(fs::read(only_file(&stage))?, content);
    Ok(())
}

fn hostile_names() {
    let cut = "x".repeat(120) + "…";
    let long = "x".repeat(10_000);
    // The name as sent, as text, as HTML.
    let names = [
        ("../../x", "../../x", "../../x"),
        ("/etc/x", "/etc/x", "/etc/x"),
        (
            "<script>alert(1)</script>",
            "<script>alert(1)</script>",
            "&#60;script&#62;alert(1)&#60;/script&#62;",
        ),
        (r#"a\"b'c"#, r#"a"b'c"#, "a&#34;b&#39;c"),
        ("gpj.\u{202e}exe", "gpj.\u{fffd}exe", "gpj.\u{fffd}exe"),
        (&long, &cut, &cut),
    ];
    for (name, as_text, as_html) in names {
        for (accept, shown) in [
            (TEXT, format!("  {as_text}\n")),
            (HTML, format!(">{as_html}<")),
        ] {
            let stage = Stage::start(&[]);
            let response = form(&[file(name, b"content")])
                .header(accept)
                .to(stage.addr())
                .assert_delivered(200);
            assert!(response.body.contains(&shown), "{shown}: {}", response.body);
            let sniffed = response.header("content-type").unwrap();
            assert_eq!(sniffed.starts_with("text/html"), accept == HTML);
            only_file(&stage);
        }
    }
}

fn missing_folder() {
    let nowhere = tempfile::tempdir().unwrap().path().join("gone");
    let running = Form::start(&["--dir", nowhere.to_str().unwrap()]);
    let response = form(&[file("a", b"1")])
        .to(running.addr())
        .assert_delivered(500);
    assert!(response.body.contains("cannot write to its folder"));
    // Only the log explains what is wrong with the folder.
    assert!(!response.body.contains("gone"), "{response:?}");
}

/// The client sends more than the disk and all buffers on the way hold, and only then reads.
fn full_disk() -> Result<(), Failed> {
    for flags in SERVED {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c"]);
        command.arg(r#"mount -t tmpfs -o size=1m none "$0" && exec "$@" --dir "$0""#);
        command.arg(folder.path()).arg(Form::program());
        let running = start_by(command, &[flags, &["--limit", "100MiB"]].concat());

        for length in [3 * MIB, LARGE] {
            let response = SendFirst::form("/", Framing::ContentLength, length)
                .header("Connection: close")
                .to(running.addr())
                .assert_delivered(507);
            assert!(response.body.contains("no room left"), "{response:?}");
        }

        // The folder in the form's mount namespace.
        let root = PathBuf::from(format!("/proc/{}/root", running.id()));
        let folder = root.join(folder.path().strip_prefix("/")?);
        until("the folder is empty", || files_in(&folder).is_empty());
        form(&[file("a", b"1")])
            .to(running.addr())
            .assert_delivered(200);
        assert_eq!(files_in(&folder).len(), 1);
    }
    Ok(())
}
