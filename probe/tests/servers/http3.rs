//! HTTP/3: which server is probed, and what the clients receive.

use std::{
    fs,
    process::{Command, Output},
    sync::mpsc,
    time::Duration,
};

use early_response_probe::{Client, ClientReport, Finding, Options, Outcome};
use quinn::{ConnectionError, ReadError};
use testkit::{
    client::PATIENCE,
    outside::{Trial, trial},
    tls::Certificate,
};

use crate::{
    broken_http3::{self, H3_NO_ERROR, H3_REQUEST_CANCELLED},
    stage::{
        self, IMPATIENCE, LIMIT, Server, found, http3_options, options, run, with_http1_headers,
    },
};

const CLIENTS: [Client; 3] = [Client::H3Stops, Client::H3SendsAll, Client::H3SendsFirst];

pub(crate) fn trials() -> Vec<Trial> {
    let test = |name: &str, test: fn()| {
        trial(name, &[], move || {
            test();
            Ok(())
        })
    };
    vec![
        test("all_responses_of_the_good_server_arrive", good),
        test("form_reaches_the_server", form),
        test("headers_of_http1_are_not_sent", http1_headers),
        test("malformed_host_is_not_sent", malformed_host),
        test("h3_axum_loses_responses", stock),
        test(
            "stopped_upload_is_lost_by_a_client_that_sends_first",
            stopped,
        ),
        test("response_in_pieces_is_whole", pieces),
        test("empty_frames_do_not_end_a_response", empty_frames),
        test("unread_upload_blocks_a_client_that_sends_first", unread),
        test("upload_in_quinns_buffer_is_not_idle", slow_uplink),
        test("malformed_response_is_incomplete", malformed),
        test("client_that_stops_cancels_its_request", cancelled),
        test("port_in_alt_svc_is_probed", advertised),
        test("server_without_alt_svc_is_not_probed", not_advertised),
        test("failed_get_is_the_reason_not_to_probe", failed_get),
        test("server_without_tls_is_not_probed", without_tls),
        test("closed_udp_port_is_not_probed", closed_port),
        test("certificate_is_checked", certificate),
        test("volume_is_never_exceeded", volume),
    ]
}

fn url(server: &Server) -> String {
    format!("https://localhost:{}/", server.addr.port())
}

fn outcomes(clients: &[ClientReport]) -> Vec<Outcome> {
    clients
        .iter()
        .map(|client| client.runs[0].outcome)
        .collect()
}

fn good() {
    let server = Server::good_with_http3(&Certificate::new());
    let options = http3_options(&CLIENTS);
    let report = run(&url(&server), &options);
    assert_eq!(found(&report), [], "{report:#?}");
    assert!(report.passed && report.judged && report.complete);
    for client in &report.clients {
        let run = &client.runs[0];
        let seen = &run.seen;
        assert_eq!((run.outcome, seen.status), (Outcome::Whole, Some(413)));
        assert_eq!((&seen.failed_write, &seen.stop_sending), (&None, &None));
        let sends_all = client.client != Client::H3Stops;
        assert_eq!(seen.sent_in_vain == options.size, sends_all, "{seen:#?}");
    }
}

fn form() {
    let server = Server::good_with_http3(&Certificate::new());
    let options = Options {
        size: 1000,
        form_field: Some("file".to_owned()),
        rate: Some(10_000),
        expected_status: Some(200),
        ..http3_options(&[Client::H3SendsAll])
    };
    let report = run(&url(&server), &options);
    assert_eq!(found(&report), [Finding::NotEarly], "{report:#?}");
    assert!(report.clients[0].runs[0].seen.body_sent > options.size);
}

fn http1_headers() {
    let server = Server::good_with_http3(&Certificate::new());
    let report = run(&url(&server), &with_http1_headers(http3_options(&CLIENTS)));
    assert_eq!(found(&report), [], "{report:#?}");
    assert_eq!(outcomes(&report.clients), [Outcome::Whole; 3]);
}

fn malformed_host() {
    let server = Server::good_with_http3(&Certificate::new());
    let mut options = http3_options(&CLIENTS);
    options
        .headers
        .insert("host", "not a host".parse().unwrap());
    let report = run(&url(&server), &options);
    assert_eq!(found(&report), [], "{report:#?}");
    for client in &report.clients {
        let skipped = client.skipped.as_deref().unwrap();
        assert!(skipped.starts_with("the request could not be sent"));
        assert!(
            client.runs.is_empty() && skipped.contains("Host"),
            "{skipped}"
        );
    }
}

fn stock() {
    let server = Server::stock_http3();
    let report = run(&url(&server), &http3_options(&CLIENTS));
    assert!(!report.passed, "{report:#?}");
    for client in &report.clients[1..] {
        assert_ne!(client.runs[0].outcome, Outcome::Whole, "{report:#?}");
        assert_eq!(client.stop_codes().keys().collect::<Vec<_>>(), [&"0x0"]);
    }
}

fn stopped() {
    let server = broken_http3::stops_uploads::<H3_NO_ERROR>();
    let url = format!("https://localhost:{}/", server.port());
    let report = run(&url, &http3_options(&CLIENTS));
    let expected = [Outcome::Whole, Outcome::Whole, Outcome::AfterReset];
    assert_eq!(outcomes(&report.clients), expected, "{report:#?}");
    let seen = &report.clients[1].runs[0].seen;
    assert_eq!(seen.stop_sending.as_deref(), Some("H3_NO_ERROR"));
}

fn pieces() {
    let server = broken_http3::responds_in_pieces();
    let url = format!("https://localhost:{}/", server.port());
    let report = run(&url, &http3_options(&CLIENTS));
    assert_eq!(found(&report), [], "{report:#?}");
    assert_eq!(outcomes(&report.clients), [Outcome::Whole; 3]);
}

fn empty_frames() {
    let server = broken_http3::responds_with_empty_frames();
    let url = format!("https://localhost:{}/", server.port());
    let report = run(&url, &http3_options(&CLIENTS));
    assert_eq!(
        outcomes(&report.clients),
        [Outcome::Whole; 3],
        "{report:#?}"
    );

    let server = broken_http3::never_ends_behind_empty_frames();
    let url = format!("https://localhost:{}/", server.port());
    let options = Options {
        timeout: IMPATIENCE,
        ..http3_options(&CLIENTS)
    };
    let report = run(&url, &options);
    assert_eq!(found(&report), [Finding::ResponseUnended], "{report:#?}");
    assert_eq!(outcomes(&report.clients), [Outcome::Stalled; 3]);
}

fn unread() {
    let server = broken_http3::neither_reads_nor_responds();
    let url = format!("https://localhost:{}/", server.port());
    let options = Options {
        timeout: IMPATIENCE,
        ..http3_options(&CLIENTS)
    };
    let report = run(&url, &options);
    let findings = report.clients.iter().map(|client| &client.runs[0].findings);
    let findings: Vec<_> = findings.flatten().copied().collect();
    let of_readers = Finding::ResponseUnended;
    assert_eq!(findings, [of_readers, of_readers, Finding::UploadUnread]);
    assert_eq!(outcomes(&report.clients), [Outcome::Stalled; 3]);
}

fn slow_uplink() {
    let server = Server::good_with_http3(&Certificate::new());
    let uplink = stage::slow_uplink(server.addr);
    let options = Options {
        // quinn accepts all of it at once, and sends it for more than 3 s.
        size: 1 << 20,
        timeout: Duration::from_secs(2),
        ..http3_options(&[Client::H3SendsAll])
    };
    let report = run(&format!("https://localhost:{}/", uplink.port()), &options);
    assert_eq!(found(&report), [Finding::NotEarly], "{report:#?}");
    assert_eq!(outcomes(&report.clients), [Outcome::Whole]);
}

fn malformed() {
    let server = broken_http3::responds_malformed();
    let url = format!("https://localhost:{}/", server.port());
    let report = run(&url, &http3_options(&CLIENTS));
    assert_eq!(found(&report), [Finding::ResponseIncomplete], "{report:#?}");
    assert_eq!(outcomes(&report.clients), [Outcome::Lost; 3]);
}

fn cancelled() {
    let (sender, ends) = mpsc::channel();
    let server = broken_http3::notes_the_end(sender);
    let url = format!("https://localhost:{}/", server.port());
    let report = run(&url, &http3_options(&[Client::H3Stops]));
    assert_eq!(found(&report), [], "{report:#?}");
    let (stream, connection) = ends.recv_timeout(PATIENCE).unwrap();
    assert_eq!(stream, ReadError::Reset(H3_REQUEST_CANCELLED.into()));
    // The program may end at once.
    let ConnectionError::ApplicationClosed(closed) = connection else {
        panic!("{connection}");
    };
    assert_eq!(closed.error_code, H3_NO_ERROR.into());
}

fn advertised() {
    let certificate = Certificate::new();
    let http3 = Server::good_with_http3(&certificate);
    let alt_svc = format!("h3=\":{}\"; ma=60", http3.addr.port());
    let tcp = Server::good_with_certificate(&certificate, Some(alt_svc.parse().unwrap()));
    let options = Options {
        size: 2 * LIMIT,
        ..options(&[Client::Stops, Client::H3Stops])
    };
    // Only the responses of `/` have the header.
    for path in ["", "missing"] {
        let report = run(&(url(&tcp) + path), &options);
        assert!(report.passed, "{report:#?}");
        for client in &report.clients {
            assert_eq!(client.runs[0].seen.status, Some(413), "{client:#?}");
        }
    }
}

fn not_advertised() {
    let certificate = Certificate::new();
    for alt_svc in [None, Some("h3-29=\":443\"".parse().unwrap())] {
        let server = Server::good_with_certificate(&certificate, alt_svc);
        assert_skipped(&url(&server), &[Client::Stops, Client::H3Stops], "Alt-Svc");
    }
}

fn failed_get() {
    // No TCP socket has its port.
    let server = Server::good_with_http3(&Certificate::new());
    let error = stage::try_run(&url(&server), &options(&[Client::H3Stops])).unwrap_err();
    let words = error.to_string();
    assert!(words.contains("Alt-Svc could not be read"), "{words}");
    assert!(words.contains("refused"), "{words}");
}

fn without_tls() {
    let server = Server::good();
    let url = format!("http://{}/", server.addr);
    assert_skipped(&url, &[Client::Stops, Client::H3Stops], "https://");
}

#[track_caller]
fn assert_skipped(url: &str, clients: &[Client], why: &str) {
    let report = run(url, &options(clients));
    let [other, http3] = &report.clients[..] else {
        panic!("{report:#?}");
    };
    assert_eq!((other.runs.len(), http3.runs.len()), (1, 0));
    assert!(http3.skipped.as_ref().unwrap().contains(why), "{http3:#?}");
    assert!(report.passed && report.judged && report.complete);
}

fn closed_port() {
    let server = Server::good_with_tls();
    let options = Options {
        // The port sends no reply.
        timeout: Duration::from_secs(1),
        ..http3_options(&[Client::H3Stops])
    };
    let report = run(&url(&server), &options);
    let skipped = report.clients[0].skipped.as_ref().unwrap();
    assert!(skipped.contains("no QUIC on UDP port"), "{skipped}");
    assert!(report.passed && !report.judged);
}

fn certificate() {
    let own = Certificate::new();
    let server = Server::good_with_http3(&own);
    let folder = tempfile::tempdir().unwrap();
    let program = |trusted: &Certificate, flags: &[&str]| -> Output {
        let file = folder.path().join("trusted.pem");
        fs::write(&file, trusted.pem().0).unwrap();
        Command::new(env!("CARGO_BIN_EXE_early-response-probe"))
            .args([&url(&server), "--runs=1", "--only=h3-stops", "--size=8MiB"])
            .args(flags)
            .env("SSL_CERT_FILE", file)
            .output()
            .unwrap()
    };
    let other = Certificate::new();
    for (trusted, flags, status) in [
        (&own, &[][..], 0),
        (&other, &[], 2),
        (&other, &["--insecure"], 0),
    ] {
        let out = program(trusted, flags);
        assert_eq!(out.status.code(), Some(status), "{out:?}");
        let errors = String::from_utf8(out.stderr).unwrap();
        assert_eq!(errors.contains("--insecure"), status == 2, "{errors}");
        assert_eq!(errors.contains("certificate"), status == 2, "{errors}");
    }
}

fn volume() {
    let server = Server::good_with_http3(&Certificate::new());
    let options = Options {
        runs: 5,
        max_volume: 4 * LIMIT,
        ..http3_options(&[Client::H3SendsAll])
    };
    let report = run(&url(&server), &options);
    assert!(report.bytes_sent > LIMIT && report.bytes_sent <= options.max_volume);
    assert!(report.passed && report.judged && !report.complete);
    assert_eq!(report.clients[0].runs.len(), 1);
}
