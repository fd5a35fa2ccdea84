//! The kinds of clients.

use schemars::JsonSchema;
use serde::Serialize;

use crate::http1::plan::Plan;
use crate::http2::Http2;
use crate::http3::Http3;

/// A kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Client {
    /// Writes everything before it reads, with `Content-Length`.
    SendsFirst,
    /// Writes everything before it reads, with chunked coding.
    SendsFirstChunked,
    /// Writes everything before it reads, over HTTP/1.0.
    SendsFirstHttp10,
    /// Reads while it writes, and writes to the end, with `Content-Length`.
    Reads,
    /// Reads while it writes, and writes to the end, with chunked coding.
    ReadsChunked,
    /// Stops at the first byte of the response, with `Content-Length`.
    Stops,
    /// Stops at the first byte of the response, with chunked coding.
    StopsChunked,
    /// Sends `Expect: 100-continue`, and waits 1 s for a response.
    ExpectWaits,
    /// Sends `Expect: 100-continue`, and does not wait.
    ExpectSends,
    /// Writes everything, closes its sending side, and then reads.
    HalfCloses,
    /// Writes everything and a second request, and then reads.
    Pipelines,
    /// Has a body that looks like requests.
    HidesRequests,
    /// Reads while it writes, and sends a second request afterwards.
    Reuses,
    /// Writes everything, waits 1 s, and reads slowly into a small buffer.
    ReadsSlowly,
    /// Resets during the upload, and connects again.
    Resets,
    /// Stops its HTTP/2 stream at the head of the response.
    H2Stops,
    /// Sends the whole body over HTTP/2, and reads meanwhile.
    H2SendsAll,
    /// Reads nothing before the body is sent over HTTP/2.
    H2WaitsForWindow,
    /// Stops its HTTP/3 stream at the head of the response.
    H3Stops,
    /// Sends the whole body over HTTP/3, and reads meanwhile.
    H3SendsAll,
    /// Reads nothing before the body is sent over HTTP/3.
    H3SendsFirst,
}

/// The protocol of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1(Plan),
    Http2(Http2),
    Http3(Http3),
}

impl Client {
    /// All clients.
    pub const ALL: [Self; 21] = [
        Self::SendsFirst,
        Self::SendsFirstChunked,
        Self::SendsFirstHttp10,
        Self::Reads,
        Self::ReadsChunked,
        Self::Stops,
        Self::StopsChunked,
        Self::ExpectWaits,
        Self::ExpectSends,
        Self::HalfCloses,
        Self::Pipelines,
        Self::HidesRequests,
        Self::Reuses,
        Self::ReadsSlowly,
        Self::Resets,
        Self::H2Stops,
        Self::H2SendsAll,
        Self::H2WaitsForWindow,
        Self::H3Stops,
        Self::H3SendsAll,
        Self::H3SendsFirst,
    ];

    /// Returns the name, as `--only` and the reports have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SendsFirst => "sends-first",
            Self::SendsFirstChunked => "sends-first-chunked",
            Self::SendsFirstHttp10 => "sends-first-http10",
            Self::Reads => "reads",
            Self::ReadsChunked => "reads-chunked",
            Self::Stops => "stops",
            Self::StopsChunked => "stops-chunked",
            Self::ExpectWaits => "expect-waits",
            Self::ExpectSends => "expect-sends",
            Self::HalfCloses => "half-closes",
            Self::Pipelines => "pipelines",
            Self::HidesRequests => "hides-requests",
            Self::Reuses => "reuses",
            Self::ReadsSlowly => "reads-slowly",
            Self::Resets => "resets",
            Self::H2Stops => "h2-stops",
            Self::H2SendsAll => "h2-sends-all",
            Self::H2WaitsForWindow => "h2-waits-for-window",
            Self::H3Stops => "h3-stops",
            Self::H3SendsAll => "h3-sends-all",
            Self::H3SendsFirst => "h3-sends-first",
        }
    }

    /// Returns what the client does.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::SendsFirst => "writes everything before it reads (Content-Length)",
            Self::SendsFirstChunked => "writes everything before it reads (chunked)",
            Self::SendsFirstHttp10 => "writes everything before it reads (HTTP/1.0)",
            Self::Reads => "reads while it writes, and writes to the end (Content-Length)",
            Self::ReadsChunked => "reads while it writes, and writes to the end (chunked)",
            Self::Stops => "stops at the first byte of the response (Content-Length)",
            Self::StopsChunked => "stops at the first byte of the response (chunked)",
            Self::ExpectWaits => "sends Expect: 100-continue, and waits 1 s for the response",
            Self::ExpectSends => "sends Expect: 100-continue, and does not wait",
            Self::HalfCloses => "writes everything, closes its sending side, and then reads",
            Self::Pipelines => "writes everything and a second request, and then reads",
            Self::HidesRequests => "has a body that looks like requests",
            Self::Reuses => "reads while it writes, and sends a second request afterwards",
            Self::ReadsSlowly => "writes everything, waits 1 s, and reads slowly",
            Self::Resets => "resets during the upload, and connects again",
            Self::H2Stops => "stops its stream at the head of the response (HTTP/2)",
            Self::H2SendsAll => "sends the whole body, and reads meanwhile (HTTP/2)",
            Self::H2WaitsForWindow => "reads nothing before the body is sent (HTTP/2)",
            Self::H3Stops => "stops its stream at the head of the response (HTTP/3)",
            Self::H3SendsAll => "sends the whole body, and reads meanwhile (HTTP/3)",
            Self::H3SendsFirst => "reads nothing before the body is sent (HTTP/3)",
        }
    }

    /// Returns whether the client speaks HTTP/2.
    #[must_use]
    pub fn is_http2(self) -> bool {
        matches!(self.protocol(), Protocol::Http2(_))
    }

    /// Returns whether the client speaks HTTP/3.
    #[must_use]
    pub fn is_http3(self) -> bool {
        matches!(self.protocol(), Protocol::Http3(_))
    }

    /// Returns the most bytes of bodies that a run with uploads of `size` bytes sends.
    pub(crate) fn most_sent(self, size: u64) -> u64 {
        match self {
            // The upload that is reset, and the one after it.
            Self::Resets => size.saturating_mul(2),
            _ => size,
        }
    }

    pub(crate) fn protocol(self) -> Protocol {
        Protocol::Http1(match self {
            Self::SendsFirst => Plan::SENDS_FIRST,
            Self::SendsFirstChunked => Plan::SENDS_FIRST.chunked(),
            Self::SendsFirstHttp10 => Plan::SENDS_FIRST.http10(),
            Self::Reads => Plan::READS,
            Self::ReadsChunked => Plan::READS.chunked(),
            Self::Stops => Plan::STOPS,
            Self::StopsChunked => Plan::STOPS.chunked(),
            Self::ExpectWaits => Plan::EXPECT_WAITS,
            Self::ExpectSends => Plan::EXPECT_SENDS,
            Self::HalfCloses => Plan::HALF_CLOSES,
            Self::Pipelines => Plan::PIPELINES,
            Self::HidesRequests => Plan::HIDES_REQUESTS,
            Self::Reuses => Plan::REUSES,
            Self::ReadsSlowly => Plan::READS_SLOWLY,
            Self::Resets => Plan::RESETS,
            Self::H2Stops => return Protocol::Http2(Http2::Stops),
            Self::H2SendsAll => return Protocol::Http2(Http2::SendsAll),
            Self::H2WaitsForWindow => return Protocol::Http2(Http2::WaitsForWindow),
            Self::H3Stops => return Protocol::Http3(Http3::Stops),
            Self::H3SendsAll => return Protocol::Http3(Http3::SendsAll),
            Self::H3SendsFirst => return Protocol::Http3(Http3::SendsFirst),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_reports() {
        assert!(Client::ALL.is_sorted());
        for client in Client::ALL {
            let json = serde_json::to_value(client).unwrap();
            assert_eq!(json, client.name());
        }
    }

    #[test]
    fn readme_lists_each_client() {
        let readme = include_str!("../README.md");
        for client in Client::ALL {
            let row = format!("| `{}` | {} |", client.name(), client.describe());
            assert!(readme.contains(&row), "{row}");
        }
        assert!(readme.contains(&format!("as {} kinds of client", Client::ALL.len())));
    }
}
