//! Judges the facts about one upload. Pure: no clock and no socket.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    client::Client,
    finding::Finding,
    observation::{Observation, Received, Second},
};

/// The fate of the response to one upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The whole response arrived, and no write failed before that.
    Whole,
    /// The whole response was still readable after a failed write or a reset. On other systems
    /// than Linux it is lost.
    AfterReset,
    /// Only a part of the response arrived.
    Cut,
    /// No byte of the response arrived.
    Lost,
    /// No byte moved for the timeout, and the response is not whole.
    Stalled,
}

impl Outcome {
    /// Judges one upload.
    #[must_use]
    pub fn of(seen: &Observation) -> Self {
        match seen.received {
            Received::Whole if seen.reset_before_whole => Self::AfterReset,
            Received::Whole => Self::Whole,
            Received::Part | Received::Nothing if seen.stalled => Self::Stalled,
            Received::Part => Self::Cut,
            Received::Nothing => Self::Lost,
        }
    }
}

/// Returns everything that is to be reported about one upload.
///
/// `expected` is the status that the user expects. `client` is the one that uploaded: each protocol
/// has findings of its own.
#[must_use]
pub fn findings(seen: &Observation, expected: Option<u16>, client: Client) -> Vec<Finding> {
    if seen.no_connection.is_some() {
        return vec![Finding::NoConnection];
    }
    let mut findings = Vec::new();
    findings.extend(match client.is_http3() {
        true => delivery_over_http3(seen, client),
        false => delivery(seen, client.is_http2()),
    });
    if seen.unsolicited_responses > 0 {
        findings.push(match seen.second {
            Second::NotSent => Finding::BodyParsedAsRequest,
            _ => Finding::TooManyResponses,
        });
    }
    if seen.second == Second::Served && seen.says_close {
        findings.push(Finding::ServedAfterClose);
    }
    let whole = seen.received == Received::Whole;
    if seen.second == Second::Unserved && whole && !seen.says_close {
        findings.push(Finding::SilentClose);
    }
    if seen.interim_100 && seen.is_refusal() && seen.is_early() {
        findings.push(Finding::Needless100);
    }
    let unexpected = expected.is_some_and(|expected| seen.status != Some(expected));
    if unexpected && seen.status.is_some() {
        findings.push(Finding::UnexpectedStatus);
    }
    if whole && seen.early == Some(false) {
        findings.push(Finding::NotEarly);
    }
    findings
}

fn delivery(seen: &Observation, http2: bool) -> Option<Finding> {
    let stream_reset = seen.stream_reset.as_deref().filter(|_| http2);
    let outcome = Outcome::of(seen);
    match (outcome, stream_reset) {
        (Outcome::Whole, _) => None,
        (_, Some("NO_ERROR")) => Some(Finding::StreamStopped),
        (_, Some(_)) => Some(Finding::StreamAborted),
        (Outcome::AfterReset, None) => Some(Finding::AfterReset),
        (Outcome::Cut, None) => Some(Finding::Cut),
        (Outcome::Lost, None) => Some(Finding::Lost),
        (Outcome::Stalled, None) => Some(Finding::Stalled),
    }
}

fn delivery_over_http3(seen: &Observation, client: Client) -> Option<Finding> {
    let outcome = Outcome::of(seen);
    if outcome == Outcome::Whole {
        return None;
    }
    if seen.stream_reset.is_some() {
        return Some(Finding::ResponseReset);
    }
    if seen.reset.is_some() {
        return Some(Finding::ConnectionClosed);
    }
    Some(match (outcome, seen.stop_sending.as_deref()) {
        (Outcome::AfterReset, Some("H3_NO_ERROR")) => Finding::UploadStopped,
        (Outcome::AfterReset, _) => Finding::UploadAborted,
        // Not stopped, and not sent either: the window is full.
        (Outcome::Stalled, None)
            if client == Client::H3SendsFirst
                && seen.received == Received::Nothing
                && seen.early == Some(true) =>
        {
            Finding::UploadUnread
        }
        (Outcome::Stalled, _) => Finding::ResponseUnended,
        _ => Finding::ResponseIncomplete,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Observation {
        Observation {
            status: Some(413),
            received: Received::Whole,
            says_close: true,
            early: Some(true),
            ..Observation::default()
        }
    }

    #[track_caller]
    fn assert_findings(seen: &Observation, expected: &[Finding]) {
        assert_eq!(findings(seen, None, Client::Reads), expected, "{seen:?}");
    }

    #[test]
    fn whole_response_has_no_findings() {
        assert_eq!(Outcome::of(&refused()), Outcome::Whole);
        assert_findings(&refused(), &[]);
    }

    #[test]
    fn reset_after_the_whole_response_is_no_fault() {
        let seen = Observation {
            reset: Some("a read failed".to_owned()),
            ..refused()
        };
        assert_findings(&seen, &[]);
    }

    #[test]
    fn whole_response_behind_a_reset_is_luck() {
        let seen = Observation {
            reset_before_whole: true,
            ..refused()
        };
        assert_eq!(Outcome::of(&seen), Outcome::AfterReset);
        assert_findings(&seen, &[Finding::AfterReset]);
    }

    #[test]
    fn missing_bytes_are_cut_lost_or_stalled() {
        for (received, stalled, outcome, finding) in [
            (Received::Part, false, Outcome::Cut, Finding::Cut),
            (Received::Nothing, false, Outcome::Lost, Finding::Lost),
            (Received::Part, true, Outcome::Stalled, Finding::Stalled),
            (Received::Nothing, true, Outcome::Stalled, Finding::Stalled),
        ] {
            let seen = Observation {
                received,
                stalled,
                ..refused()
            };
            assert_eq!(Outcome::of(&seen), outcome);
            assert_findings(&seen, &[finding]);
        }
    }

    #[test]
    fn reset_stream_is_judged_by_its_code() {
        for (code, finding) in [
            ("NO_ERROR", Finding::StreamStopped),
            ("CANCEL", Finding::StreamAborted),
        ] {
            let seen = Observation {
                received: Received::Nothing,
                stream_reset: Some(code.to_owned()),
                ..refused()
            };
            assert_eq!(findings(&seen, None, Client::H2SendsAll), [finding]);
            let whole = Observation {
                received: Received::Whole,
                ..seen
            };
            assert_eq!(findings(&whole, None, Client::H2SendsAll), []);
        }
    }

    #[track_caller]
    fn assert_http3(seen: &Observation, expected: &[Finding]) {
        assert_eq!(findings(seen, None, Client::H3SendsFirst), expected);
    }

    #[test]
    fn stopped_http3_upload_is_judged_by_its_code() {
        for (code, finding) in [
            ("H3_NO_ERROR", Finding::UploadStopped),
            ("0x0", Finding::UploadAborted),
        ] {
            let kept = Observation {
                stop_sending: Some(code.to_owned()),
                ..refused()
            };
            assert_http3(&kept, &[]);
            let failed = Observation {
                reset_before_whole: true,
                ..kept
            };
            assert_http3(&failed, &[finding]);
        }
    }

    #[test]
    fn lost_http3_response_is_judged_by_its_end() {
        let code = Some("H3_NO_ERROR".to_owned());
        let stopped = Observation {
            stop_sending: code.clone(),
            ..refused()
        };
        for received in [Received::Part, Received::Nothing] {
            let lost = Observation {
                received,
                ..stopped.clone()
            };
            assert_http3(&lost, &[Finding::ResponseIncomplete]);
            let closed = Observation {
                reset: Some("closed by the server".to_owned()),
                ..lost
            };
            assert_http3(&closed, &[Finding::ConnectionClosed]);
            let reset = Observation {
                stream_reset: code.clone(),
                ..closed
            };
            assert_http3(&reset, &[Finding::ResponseReset]);
        }
    }

    #[test]
    fn stalled_http3_upload_is_judged_by_the_side_that_waits() {
        let unread = Observation {
            received: Received::Nothing,
            stalled: true,
            ..refused()
        };
        assert_http3(&unread, &[Finding::UploadUnread]);
        for reads in [Client::H3Stops, Client::H3SendsAll] {
            assert_eq!(findings(&unread, None, reads), [Finding::ResponseUnended]);
        }
        let part = Observation {
            received: Received::Part,
            ..unread.clone()
        };
        let sent = Observation {
            early: None,
            ..unread.clone()
        };
        let stopped = Observation {
            stop_sending: Some("H3_NO_ERROR".to_owned()),
            ..unread
        };
        for seen in [part, sent, stopped] {
            assert_http3(&seen, &[Finding::ResponseUnended]);
        }
    }

    #[test]
    fn second_response_to_one_request_is_body_parsed_as_a_request() {
        let seen = Observation {
            unsolicited_responses: 1,
            ..refused()
        };
        assert_findings(&seen, &[Finding::BodyParsedAsRequest]);
    }

    #[test]
    fn third_response_to_two_requests_is_one_too_many() {
        let seen = Observation {
            unsolicited_responses: 1,
            says_close: false,
            second: Second::Served,
            ..refused()
        };
        assert_findings(&seen, &[Finding::TooManyResponses]);
    }

    #[test]
    fn second_request_is_served_only_without_close() {
        for (says_close, second, expected) in [
            (true, Second::Served, &[Finding::ServedAfterClose][..]),
            (false, Second::Served, &[]),
            (true, Second::Unserved, &[]),
            (false, Second::Unserved, &[Finding::SilentClose]),
            (false, Second::NoResponse, &[]),
            (false, Second::NotSent, &[]),
        ] {
            let seen = Observation {
                says_close,
                second,
                ..refused()
            };
            assert_findings(&seen, expected);
        }
    }

    #[test]
    fn needless_100_needs_an_early_refusal() {
        let invited = Observation {
            interim_100: true,
            ..refused()
        };
        assert_findings(&invited, &[Finding::Needless100]);
        let accepted = Observation {
            status: Some(200),
            ..invited.clone()
        };
        assert_findings(&accepted, &[]);
        let read_first = Observation {
            early: Some(false),
            ..invited
        };
        assert_findings(&read_first, &[Finding::NotEarly]);
    }

    #[test]
    fn status_is_compared_if_there_is_one() {
        assert_eq!(findings(&refused(), Some(413), Client::Reads), []);
        assert_eq!(
            findings(&refused(), Some(400), Client::Reads),
            [Finding::UnexpectedStatus]
        );
        let lost = Observation {
            status: None,
            received: Received::Nothing,
            ..refused()
        };
        assert_eq!(findings(&lost, Some(413), Client::Reads), [Finding::Lost]);
    }

    #[test]
    fn refused_connection_is_the_only_finding() {
        let seen = Observation {
            no_connection: Some("connection refused".to_owned()),
            ..Observation::default()
        };
        assert_findings(&seen, &[Finding::NoConnection]);
    }
}
