//! `--tls`: HTTPS, where clients choose HTTP/2 or HTTP/1.1.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
};

use libtest_mimic::Failed;
use testkit::{
    Framing, LARGE, SendFirst,
    client::{Ended, FRAMINGS, Response, connect, read_response, read_to_end},
    outside::{Need, Trial, file_of, succeed, trial, until},
    tls::trusting_anyone,
};
use tokio_rustls::rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use super::stage::{SERVED, Stage, file, files_in, form, test};

pub(crate) fn trials() -> Vec<Trial> {
    let curl = [Need::program("curl")];
    vec![
        test("tls_the_url_is_https", url),
        trial("tls_curl_chooses_http_2", &curl, || by_curl("2")),
        trial("tls_curl_chooses_http_1_1", &curl, || by_curl("1.1")),
        test("tls_a_413_to_64_mib_sent_first_arrives", large_upload),
        test("tls_plain_the_same_upload_is_reset", plain),
        test("tls_garbage_hurts_nobody_else", garbage),
        test("tls_nobody_waits_for_a_silent_client", silence),
        test("tls_sigterm_lets_an_upload_end", let_end),
        trial(
            "tls_sigterm_lets_an_upload_over_http_2_end",
            &curl,
            let_http_2_end,
        ),
        test(
            "tls_sigterm_lets_the_refused_finish",
            let_the_refused_finish,
        ),
        test("tls_sigterm_cuts_an_upload_off_after_the_grace", cut_off),
    ]
}

fn tls(flags: &[&str]) -> Stage {
    Stage::start(&[&["--tls"], flags].concat())
}

fn url() {
    let stage = tls(&[]);
    assert_eq!(stage.form.url, format!("https://{}", stage.addr()));
}

/// Returns a curl command that sends a form with this file over this version.
fn curl(version: &str, file: &Path, stage: &Stage) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "60", "--insecure"]);
    curl.arg(format!("--http{version}"));
    curl.args(["--write-out", "%{http_code} over HTTP/%{http_version}"]);
    curl.arg("--form")
        .arg(format!("photopicker=@{}", file.display()));
    curl.arg(&stage.form.url);
    curl
}

fn expect(said: &str, parts: [&str; 2]) -> Result<(), Failed> {
    match parts.iter().all(|part| said.contains(part)) {
        true => Ok(()),
        false => Err(format!("no {parts:?} in: {said}").into()),
    }
}

/// 20 MB are refused, 3 MB are stored, and both over the requested version.
fn by_curl(version: &str) -> Result<(), Failed> {
    let stage = tls(&[]);
    let source = tempfile::tempdir()?;

    let file = file_of(source.path(), 20_000_000);
    let said = succeed(&mut curl(version, &file, &stage))?;
    let refused = format!("413 over HTTP/{version}");
    expect(&said, ["limit is 4 MiB", &refused])?;
    stage.becomes_empty();

    let file = file_of(source.path(), 3_000_000);
    let said = succeed(&mut curl(version, &file, &stage))?;
    let stored = format!("200 over HTTP/{version}");
    expect(&said, ["3000000 bytes  3000000.bin", &stored])?;
    assert_eq!(stage.files().len(), 1);
    Ok(())
}

fn large_upload() {
    for flags in SERVED {
        let stage = tls(flags);
        for framing in FRAMINGS {
            for upload in [
                SendFirst::form("/", framing, LARGE),
                SendFirst::post("/raw", framing, LARGE),
            ] {
                let response = upload.over(shake_hands(stage.addr())).assert_delivered(413);
                assert!(response.body.contains("limit is 4 MiB"), "{response:?}");
            }
        }
        stage.becomes_empty();
    }
}

/// Negative control of the trial above.
fn plain() {
    let stage = tls(&["--plain"]);
    let upload = SendFirst::post("/raw", Framing::ContentLength, LARGE);
    assert!(upload.over(shake_hands(stage.addr())).was_reset());
}

fn assert_stores(addr: SocketAddr) {
    form(&[file("a", b"1")])
        .over(shake_hands(addr))
        .assert_delivered(200);
}

/// The garbage includes HTTP without TLS. The server sends only an alert and closes.
fn garbage() {
    for flags in SERVED {
        let stage = tls(flags);
        let mut before = shake_hands(stage.addr());
        let http = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
        for bytes in [&http[..], &[0; 100_000], &[0x16; 100_000]] {
            let mut socket = connect(stage.addr());
            socket.write_all(bytes).unwrap();
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            let mut received = Vec::new();
            socket.read_to_end(&mut received).unwrap();
            assert!(received.len() < 100, "{received:?}");
            assert_stores(stage.addr());
        }
        let upload = SendFirst::post("/raw", Framing::ContentLength, 100_000);
        upload.write(&mut before).unwrap();
        assert_eq!(read_response(&mut before).unwrap().status, 200);
    }
}

/// If the server handled handshakes one after the other, this would take minutes.
fn silence() {
    let stage = tls(&[]);
    let _silent: Vec<_> = (0..20).map(|_| connect(stage.addr())).collect();
    let mut half_said = connect(stage.addr());
    half_said.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    assert_stores(stage.addr());
}

fn let_end() {
    let stage = tls(&["--grace", "1m"]);
    let upload = form(&[file("a", &[1; 100_000]), file("b", &[2; 100_000])]);
    let (first, rest) = upload.prefix.split_at(150_000);
    let mut client = shake_hands(stage.addr());
    client.write_all(upload.head().as_bytes()).unwrap();
    client.write_all(first).unwrap();
    until("both files arrive", || stage.files().len() == 2);
    stop_listening(&stage);
    client.write_all(rest).unwrap();
    assert_eq!(read_response(&mut client).unwrap().status, 200);
    let Stage { form, around } = stage;
    assert!(form.end().success());
    let kept = files_in(around.path());
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|file| file.extension().is_none()));
}

/// The server sends GOAWAY, and the stream continues.
fn let_http_2_end() -> Result<(), Failed> {
    let stage = tls(&["--grace", "1m"]);
    let source = tempfile::tempdir()?;
    let mut slow = curl("2", &file_of(source.path(), 3_000_000), &stage);
    slow.args(["--limit-rate", "2M"]).stdout(Stdio::piped());
    let curl = slow.spawn()?;
    until("the file arrives", || stage.files().len() == 1);
    stop_listening(&stage);
    let out = curl.wait_with_output()?;
    let said = String::from_utf8_lossy(&out.stdout);
    expect(&said, ["3000000 bytes  3000000.bin", "200 over HTTP/2"])?;
    assert!(stage.form.end().success());
    Ok(())
}

/// The clients are still sending when the server is stopped, and they read only at the end.
fn let_the_refused_finish() {
    for flags in SERVED {
        let stage = tls(&[flags, &["--grace", "1m"]].concat());
        let upload = SendFirst::post("/raw", Framing::ContentLength, LARGE);
        let mut clients: Vec<_> = (0..4).map(|_| shake_hands(stage.addr())).collect();
        for client in &mut clients {
            client.write_all(upload.head().as_bytes()).unwrap();
            client.write_all(&vec![0; 8 << 20]).unwrap();
        }
        stop_listening(&stage);
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

fn cut_off() {
    let stage = tls(&["--limit", "1GiB", "--grace", "100ms"]);
    let upload = form(&[file("a", &[1; 100_000]), file("b", &[2; 100_000])]);
    let mut client = shake_hands(stage.addr());
    client.write_all(upload.head().as_bytes()).unwrap();
    client.write_all(&upload.prefix[..150_000]).unwrap();
    until("both files arrive", || stage.files().len() == 2);
    let Stage { form, around } = stage;
    form.send_sigterm();
    assert!(form.end().success());
    assert!(files_in(around.path()).is_empty());
}

fn stop_listening(stage: &Stage) {
    stage.form.send_sigterm();
    until("no other client is accepted", || {
        TcpStream::connect(stage.addr()).is_err()
    });
}

/// Returns a TLS connection on which nothing was sent yet.
fn shake_hands(addr: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::from(addr.ip());
    let mut tls = ClientConnection::new(trusting_anyone(), name).unwrap();
    let mut socket = connect(addr);
    tls.complete_io(&mut socket).unwrap();
    StreamOwned::new(tls, socket)
}
