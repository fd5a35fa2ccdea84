//! `--unix`: the form on a Unix socket.

use std::{os::unix::net::UnixStream, path::Path, process::Command};

use libtest_mimic::Failed;
use tempfile::TempDir;
use testkit::{
    Framing, LARGE, SendFirst,
    client::{FRAMINGS, connect_unix},
    outside::{Form, Need, Trial, succeed, trial},
};

use super::stage::{SERVED, files_in, test};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("unix_a_413_to_64_mib_sent_first_arrives", large_upload),
        test("unix_plain_the_same_upload_is_reset", plain),
        trial("unix_curl_stores_a_file", &[Need::program("curl")], stores),
        test("unix_the_socket_goes_with_the_form", goes),
        test("unix_a_taken_path_is_said", taken),
    ]
}

fn start(folder: &TempDir, flags: &[&str]) -> Form {
    let (socket, files) = (folder.path().join("socket"), folder.path().join("files"));
    std::fs::create_dir_all(&files).unwrap();
    let mut command = Command::new(Form::program());
    command.arg("--unix").arg(&socket).arg("--dir").arg(files);
    let form = Form::start_with(command, flags);
    assert_eq!(form.url, format!("unix:{}", socket.display()));
    form
}

fn connect(folder: &TempDir) -> UnixStream {
    connect_unix(&folder.path().join("socket"))
}

fn large_upload() {
    for flags in SERVED {
        let folder = TempDir::new().unwrap();
        let _form = start(&folder, flags);
        for framing in FRAMINGS {
            SendFirst::post("/raw", framing, LARGE)
                .over(connect(&folder))
                .assert_delivered(413);
        }
    }
}

fn plain() {
    let folder = TempDir::new().unwrap();
    let _form = start(&folder, &["--plain"]);
    let upload = SendFirst::post("/raw", Framing::ContentLength, LARGE);
    assert!(upload.over(connect(&folder)).was_reset());
}

fn stores() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let _form = start(&folder, &[]);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail-with-body", "--max-time", "60"]);
    curl.arg("--unix-socket").arg(folder.path().join("socket"));
    let own = Path::new(file!());
    curl.arg("--form")
        .arg(format!("photopicker=@{}", own.display()));
    succeed(curl.arg("http://form/"))?;
    let kept = files_in(&folder.path().join("files"));
    assert_eq!(std::fs::read(&kept[0])?, std::fs::read(own)?);
    Ok(())
}

fn goes() {
    let folder = TempDir::new().unwrap();
    let form = start(&folder, &[]);
    form.send_sigterm();
    assert!(form.end().success());
    assert!(!folder.path().join("socket").exists());
}

fn taken() {
    let folder = TempDir::new().unwrap();
    let _form = start(&folder, &[]);
    let path = folder.path().join("socket");
    let second = Command::new(Form::program())
        .arg("--unix")
        .arg(&path)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success());
    assert!(
        words.contains(path.to_str().unwrap()) && words.contains("--unix"),
        "{words}"
    );
    assert!(path.exists(), "it is the first one's");
}
