//! Servers whose behaviour is known: this project's, stock axum, nginx, and a WSGI program.

use early_response_probe::{Client, Finding, Options, Outcome, Report, Second};
use h2::Reason;
use libtest_mimic::Failed;
use testkit::{
    outside::{Need, Trial, trial},
    proxy,
};

use crate::{
    broken, programs,
    stage::{Server, found, options, run, with_http1_headers},
};

pub(crate) fn trials() -> Vec<Trial> {
    let test = |name: &str, test: fn()| {
        trial(name, &[], move || {
            test();
            Ok(())
        })
    };
    vec![
        test("all_responses_of_the_good_server_arrive", || {
            let server = Server::good();
            assert_good(&run(&format!("http://{}/", server.addr), &all()), 18);
        }),
        test("all_responses_of_the_good_server_arrive_over_tls", || {
            let server = Server::good_with_tls();
            let url = format!("https://localhost:{}/", server.addr.port());
            assert_good(&run(&url, &all()), 18);
        }),
        test("form_fields_and_headers_reach_the_server", form_and_headers),
        test("headers_of_http1_are_not_sent_over_http2", http1_headers),
        test("kept_connection_is_reused", kept),
        test("facts_of_the_clients_are_right", facts),
        test("stock_server_loses_responses", stock_loses),
        test("stock_server_closes_silently", stock_closes_silently),
        test(
            "stopped_stream_is_lost_by_a_client_that_waits",
            stopped_stream,
        ),
        test("slow_client_gets_its_response", slow_client),
        test("volume_is_never_exceeded", volume),
        trial(
            "all_responses_of_nginx_arrive",
            &[proxy::need("nginx")],
            || {
                let nginx = programs::nginx()?;
                // nginx speaks HTTP/2 only if it is told to.
                assert_good(&run(&nginx.0, &all()), 15);
                Ok(())
            },
        ),
        trial(
            "wsgi_program_loses_responses",
            &[Need::python("wsgiref")],
            wsgi,
        ),
    ]
}

fn all() -> Options {
    options(&Client::ALL)
}

/// Asserts that `ran` clients have received each response, and that nothing else was wrong.
#[track_caller]
fn assert_good(report: &Report, ran: usize) {
    assert_eq!(found(report), [], "{:#?}", report.findings);
    assert!(report.passed && report.judged && report.complete);
    let runs: Vec<_> = report.clients.iter().flat_map(|c| &c.runs).collect();
    assert_eq!(runs.len(), ran);
    for run in runs {
        assert_eq!((run.outcome, run.seen.status), (Outcome::Whole, Some(413)));
        assert_eq!(run.seen.failed_write, None);
    }
}

fn form_and_headers() {
    let server = Server::good();
    let mut options = Options {
        size: 1000,
        form_field: Some("file".to_owned()),
        expected_status: Some(200),
        ..options(&[Client::Reads])
    };
    options.headers.insert("x-probe", "1".parse().unwrap());
    let report = run(&format!("http://{}/", server.addr), &options);
    // The upload is within the limit, so that there is no early response to judge.
    assert_eq!(found(&report), [Finding::NotEarly], "{report:#?}");
    assert!(!report.judged);
}

fn http1_headers() {
    let server = Server::good();
    let clients = [
        Client::H2Stops,
        Client::H2SendsAll,
        Client::H2WaitsForWindow,
    ];
    let options = with_http1_headers(options(&clients));
    assert_good(&run(&format!("http://{}/", server.addr), &options), 3);
}

fn kept() {
    // The good server drains so little, and keeps the connection.
    let server = Server::good_with_limit(1 << 10);
    let options = Options {
        size: 256 << 10,
        ..options(&[Client::Reuses, Client::Pipelines])
    };
    let report = run(&format!("http://{}/", server.addr), &options);
    assert!(report.passed, "{report:#?}");
    for client in &report.clients {
        assert!(!client.runs[0].seen.says_close, "{client:#?}");
        assert_eq!(client.reused(), 1, "{client:#?}");
    }
}

fn facts() {
    let server = Server::good();
    let clients = [
        Client::SendsFirst,
        Client::Stops,
        Client::ExpectWaits,
        Client::Pipelines,
    ];
    let report = run(&format!("http://{}/", server.addr), &options(&clients));
    let seen = |at: usize| &report.clients[at].runs[0].seen;
    let size = Options::default().size;
    assert_eq!(seen(0).sent_in_vain, size);
    assert!(seen(1).sent_in_vain < size, "{:#?}", seen(1));
    assert_eq!(seen(2).body_sent, 0);
    assert!(!seen(2).interim_100);
    assert_eq!(seen(3).second, Second::Unserved);
    for client in &report.clients {
        let seen = &client.runs[0].seen;
        assert!(seen.says_close && seen.early == Some(true), "{seen:#?}");
        assert!(seen.first_byte_ms.is_some());
    }
}

fn stock_loses() {
    let server = Server::stock();
    let clients = [Client::SendsFirst, Client::HalfCloses, Client::ReadsSlowly];
    let report = run(&format!("http://{}/", server.addr), &options(&clients));
    assert!(!report.passed);
    for client in &report.clients {
        for run in &client.runs {
            assert_ne!(run.outcome, Outcome::Whole, "{run:#?}");
            assert!(run.seen.failed_write.is_some(), "{run:#?}");
        }
    }
}

fn stock_closes_silently() {
    let server = Server::stock();
    let report = run(
        &format!("http://{}/", server.addr),
        &options(&[Client::Reuses]),
    );
    assert!(
        found(&report).contains(&Finding::SilentClose),
        "{report:#?}"
    );
}

fn stopped_stream() {
    let server = broken::resets_streams(Reason::NO_ERROR);
    let clients = [
        Client::H2Stops,
        Client::H2SendsAll,
        Client::H2WaitsForWindow,
    ];
    let report = run(&format!("http://{server}/"), &options(&clients));
    let outcomes = report.clients.iter().map(|client| client.runs[0].outcome);
    let outcomes: Vec<_> = outcomes.collect();
    assert_eq!(
        outcomes,
        [Outcome::Whole, Outcome::AfterReset, Outcome::Lost],
        "{report:#?}"
    );
}

fn slow_client() {
    let server = Server::good();
    let options = Options {
        size: 8 << 20,
        rate: Some(16 << 20),
        ..options(&[Client::SendsFirst])
    };
    let report = run(&format!("http://{}/", server.addr), &options);
    assert_good(&report, 1);
}

fn volume() {
    let server = Server::good();
    let options = Options {
        runs: 10,
        max_volume: 100 << 20,
        ..options(&[Client::SendsFirst])
    };
    let report = run(&format!("http://{}/", server.addr), &options);
    assert!(report.bytes_sent <= options.max_volume);
    assert!(report.passed && report.judged && !report.complete);
    assert_eq!(report.clients[0].runs.len(), 1);
    assert!(report.clients[0].skipped.is_some());
}

fn wsgi() -> Result<(), Failed> {
    let program = programs::wsgi()?;
    let options = Options {
        expected_status: Some(400),
        ..options(&[Client::SendsFirst, Client::HalfCloses, Client::ExpectWaits])
    };
    let report = run(&program.url, &options);
    let outcomes = report.clients.iter().map(|client| client.runs[0].outcome);
    let outcomes: Vec<_> = outcomes.collect();
    assert_ne!(outcomes[0], Outcome::Whole, "{report:#?}");
    assert_ne!(outcomes[1], Outcome::Whole, "{report:#?}");
    // A client that waits has sent nothing that could be unread.
    assert_eq!(outcomes[2], Outcome::Whole, "{report:#?}");
    Ok(())
}
