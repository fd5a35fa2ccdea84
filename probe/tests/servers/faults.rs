//! Each finding is given for a server with that fault, and for no good server.

use std::net::SocketAddr;

use early_response_probe::{Client, Finding, Options, Severity};
use h2::Reason;
use testkit::{
    outside::{Trial, trial},
    tls::Certificate,
};

use crate::{
    broken,
    broken_http3::{self, H3_NO_ERROR},
    stage::{IMPATIENCE, Server, found, http3_options, options, run},
};

/// A server with one fault, and the client that sees it.
struct Case {
    server: fn() -> SocketAddr,
    client: Client,
    expected_status: u16,
}

fn case(finding: Finding) -> Case {
    let (server, client): (fn() -> SocketAddr, _) = match finding {
        Finding::Lost => (broken::resets_without_a_response, Client::SendsFirst),
        Finding::Cut => (broken::cuts_its_response, Client::SendsFirst),
        Finding::AfterReset => (broken::closes_with_unread_data, Client::SendsFirst),
        Finding::Stalled => (broken::neither_reads_nor_responds, Client::SendsFirst),
        Finding::StreamStopped => (
            || broken::resets_streams(Reason::NO_ERROR),
            Client::H2SendsAll,
        ),
        Finding::StreamAborted => (
            || broken::resets_streams(Reason::CANCEL),
            Client::H2SendsAll,
        ),
        Finding::ResponseReset => (broken_http3::resets_its_response, Client::H3SendsAll),
        Finding::ResponseIncomplete => (broken_http3::cuts_its_response, Client::H3SendsAll),
        Finding::ConnectionClosed => (broken_http3::closes_the_connection, Client::H3SendsAll),
        Finding::UploadUnread => (broken_http3::neither_reads_nor_stops, Client::H3SendsFirst),
        Finding::ResponseUnended => (broken_http3::never_ends_its_response, Client::H3Stops),
        Finding::UploadAborted => (broken_http3::stops_uploads::<0>, Client::H3SendsAll),
        Finding::UploadStopped => (
            broken_http3::stops_uploads::<H3_NO_ERROR>,
            Client::H3SendsFirst,
        ),
        Finding::BodyParsedAsRequest => {
            (broken::parses_the_body_as_a_request, Client::HidesRequests)
        }
        Finding::TooManyResponses => (broken::responds_once_too_often, Client::Pipelines),
        Finding::ServedAfterClose => (broken::serves_a_request_behind_close, Client::Pipelines),
        Finding::NoConnection => (broken::stops_accepting, Client::Resets),
        Finding::UnexpectedStatus => (broken::refuses, Client::SendsFirst),
        Finding::Needless100 => (broken::invites_a_body_and_refuses_it, Client::ExpectWaits),
        Finding::SilentClose => (broken::closes_silently, Client::Reuses),
        Finding::NotEarly => (broken::reads_everything_first, Client::Reads),
    };
    let expected_status = match finding {
        Finding::UnexpectedStatus => 400,
        Finding::NotEarly => 200,
        _ => 413,
    };
    Case {
        server,
        client,
        expected_status,
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let trials = Finding::ALL.map(|finding| {
        trial(format!("{finding:?}"), &[], move || {
            found_and_not_elsewhere(finding);
            Ok(())
        })
    });
    trials.into()
}

fn found_and_not_elsewhere(finding: Finding) {
    let case = case(finding);
    let over_http3 = case.client.is_http3();
    let probed = Options {
        expected_status: Some(case.expected_status),
        ..match over_http3 {
            true => http3_options(&[case.client]),
            false => options(&[case.client]),
        }
    };
    let impatient = Options {
        // Only these servers make the client wait.
        timeout: match finding {
            Finding::Stalled | Finding::UploadUnread | Finding::ResponseUnended => IMPATIENCE,
            _ => probed.timeout,
        },
        ..probed.clone()
    };
    let url = |addr: SocketAddr| match over_http3 {
        true => format!("https://localhost:{}/", addr.port()),
        false => format!("http://{addr}/"),
    };
    let report = run(&url((case.server)()), &impatient);
    assert_eq!(found(&report), [finding], "{report:#?}");
    let is_fault = finding.severity() == Severity::Fault;
    assert_eq!(report.passed, !is_fault, "{report:#?}");
    let unjudged = [Finding::NotEarly, Finding::NoConnection];
    assert_eq!(report.judged, !unjudged.contains(&finding), "{report:#?}");

    let good = match over_http3 {
        true => Server::good_with_http3(&Certificate::new()),
        false => Server::good(),
    };
    let mut expected = Options {
        expected_status: Some(413),
        ..probed
    };
    if case.client == Client::H3SendsFirst {
        // It cannot tell whether the response was early.
        expected.clients.push(Client::H3SendsAll);
    }
    let report = run(&url(good.addr), &expected);
    assert_eq!(found(&report), [], "{report:#?}");
    assert!(report.passed && report.judged);
}
