//! Unfinished uploads leave nothing behind.

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    process::Command,
};

use testkit::{
    Framing, LARGE, MIB, SendFirst,
    client::{Ended, Response, connect, read_response, read_to_end},
    outside::{Form, Trial, until},
};

use super::stage::{SERVED, Stage, file, files_in, form, start_by, test};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("a_refusal_in_the_second_file_removes_the_first", refused),
        test("an_upload_that_breaks_off_removes_its_files", aborted),
        test("sigterm_cuts_an_upload_off_after_the_grace", cut_off),
        test("sigterm_removes_the_temporary_folder", temporary_folder),
        test("sigterm_lets_an_upload_end_within_the_grace", let_end),
        test("sigterm_lets_the_refused_finish", let_the_refused_finish),
    ]
}

/// Returns a form whose first file is complete and whose second never ends.
fn endless(framing: Framing) -> SendFirst {
    let first = file("first.jpg", &[1; 100_000]);
    let mut form = SendFirst::form("/", framing, LARGE);
    form.prefix = [first, form.prefix].concat();
    form
}

/// Sends the first file and 1 MiB of the second.
fn begin(addr: SocketAddr) -> TcpStream {
    let mut socket = connect(addr);
    let mut part = endless(Framing::ContentLength);
    socket.write_all(part.head().as_bytes()).unwrap();
    part.prefix.resize(MIB as usize, 2);
    socket.write_all(&part.prefix).unwrap();
    socket
}

fn refused() {
    for flags in SERVED {
        let stage = Stage::start(flags);
        let response = endless(Framing::Chunked)
            .to(stage.addr())
            .assert_delivered(413);
        assert!(response.body.contains("limit is 4 MiB"), "{response:?}");
        stage.becomes_empty();
    }
}

fn aborted() {
    for flags in SERVED {
        let stage = Stage::start(&[flags, &["--limit", "1GiB"]].concat());
        let socket = begin(stage.addr());
        until("both files arrive", || stage.files().len() == 2);
        drop(socket);
        stage.becomes_empty();
    }
}

fn cut_off() {
    for flags in SERVED {
        let grace = ["--limit", "1GiB", "--grace", "100ms"];
        let stage = Stage::start(&[flags, &grace].concat());
        let _socket = begin(stage.addr());
        until("both files arrive", || stage.files().len() == 2);
        let Stage { form, around } = stage;
        form.send_sigterm();
        assert!(form.end().success());
        assert!(files_in(around.path()).is_empty());
    }
}

fn temporary_folder() {
    let around = tempfile::tempdir().unwrap();
    let mut command = Command::new(Form::program());
    command.env("TMPDIR", around.path());
    let form = start_by(command, &["--limit", "1GiB", "--grace", "100ms"]);
    let _socket = begin(form.addr());
    until("both files arrive", || files_in(around.path()).len() == 2);
    form.send_sigterm();
    assert!(form.end().success());
    assert_eq!(fs::read_dir(around.path()).unwrap().count(), 0);
}

fn let_end() {
    let stage = Stage::start(&["--grace", "1m"]);
    let upload = form(&[file("a", &[1; 100_000]), file("b", &[2; 100_000])]);
    let (first, rest) = upload.prefix.split_at(150_000);
    let mut socket = connect(stage.addr());
    socket.write_all(upload.head().as_bytes()).unwrap();
    socket.write_all(first).unwrap();
    until("both files arrive", || stage.files().len() == 2);
    stage.form.send_sigterm();
    until("no other client is accepted", || {
        TcpStream::connect(stage.addr()).is_err()
    });
    socket.write_all(rest).unwrap();
    assert_eq!(read_response(&mut socket).unwrap().status, 200);
    let Stage { form, around } = stage;
    assert!(form.end().success());
    let kept = files_in(around.path());
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|file| file.extension().is_none()));
}

/// The clients are still sending when the server is stopped, and they read only at the end.
fn let_the_refused_finish() {
    for flags in SERVED {
        let stage = Stage::start(&[flags, &["--grace", "1m"]].concat());
        let upload = SendFirst::post("/raw", Framing::ContentLength, LARGE);
        let mut clients: Vec<_> = (0..10).map(|_| connect(stage.addr())).collect();
        for client in &mut clients {
            client.write_all(upload.head().as_bytes()).unwrap();
            client.write_all(&vec![0; 8 << 20]).unwrap();
        }
        stage.form.send_sigterm();
        until("no other client is accepted", || {
            TcpStream::connect(stage.addr()).is_err()
        });
        for mut client in clients {
            for _ in 0..56 {
                client.write_all(&vec![0; 1 << 20]).expect("it is read");
            }
            let (received, ended) = read_to_end(&mut client);
            assert!(matches!(ended, Ended::Cleanly), "{ended:?}");
            assert_eq!(Response::parse(&received).unwrap().0.status, 413);
        }
        assert!(stage.form.end().success());
    }
}
