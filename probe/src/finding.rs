//! Findings about a server, with a verdict in plain words: the RFC section, and the mend.

use schemars::JsonSchema;
use serde::Serialize;

/// Something to report about an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// No byte of the response arrived.
    Lost,
    /// A part of the response arrived.
    Cut,
    /// The response arrived after a failed write or a reset.
    AfterReset,
    /// Neither side moved a byte.
    Stalled,
    /// The server reset the HTTP/2 stream with `NO_ERROR` while the client was sending.
    StreamStopped,
    /// The server reset the HTTP/2 stream with another code.
    StreamAborted,
    /// The server reset its HTTP/3 response.
    ResponseReset,
    /// The HTTP/3 response ended without a head, or before its declared length.
    ResponseIncomplete,
    /// The server closed the HTTP/3 connection before the response was read.
    ConnectionClosed,
    /// The server neither read the HTTP/3 upload nor asked the client to stop.
    UploadUnread,
    /// The HTTP/3 response did not come, or did not end.
    ResponseUnended,
    /// The server asked the client to stop its HTTP/3 upload, with another code than
    /// `H3_NO_ERROR`.
    UploadAborted,
    /// The server asked the client to stop its HTTP/3 upload, with `H3_NO_ERROR`.
    UploadStopped,
    /// Bytes of a body got a response.
    BodyParsedAsRequest,
    /// Two requests got more than two responses.
    TooManyResponses,
    /// A request behind `Connection: close` got a response.
    ServedAfterClose,
    /// A new connection was not accepted.
    NoConnection,
    /// The status is not the expected one.
    UnexpectedStatus,
    /// The server sent `100 Continue`, and then refused the upload.
    Needless100,
    /// The server closed a connection that its response had not closed.
    SilentClose,
    /// The server read the whole upload before it responded.
    NotEarly,
}

/// How much a [`Finding`] weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// A response was lost, or the server misread the connection. The probe fails.
    Fault,
    /// The server could do better, but no response was lost.
    Advice,
    /// Nothing was judged.
    Note,
}

/// The explanation of a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Verdict {
    /// The finding in one line.
    pub title: &'static str,
    /// A description of the event and of the clients that notice it.
    pub meaning: &'static str,
    /// The section of the RFC. Empty if there is none.
    pub rfc: &'static str,
    /// The remedy.
    pub mend: &'static str,
}

const LINGER: &str = "Close in stages: send the response, half-close, discard what still comes, \
    and only then close. nginx calls it lingering_close. In Rust, tower-bodyguard does it for \
    axum, hyper, tonic and axum-server.";
const STAGES: &str = "RFC 9112 §9.6 (tear-down)";
const LINGER_H3: &str = "Send the whole response, and end its stream. Then read the upload for a \
    while, and only then send STOP_SENDING with H3_NO_ERROR. In Rust, tower-bodyguard-h3 does it \
    for axum and tower.";
const EARLY_H3: &str = "RFC 9114 §4.1 (early responses)";

impl Finding {
    /// Every finding, the gravest first.
    pub const ALL: [Self; 21] = [
        Self::Lost,
        Self::Cut,
        Self::AfterReset,
        Self::Stalled,
        Self::StreamStopped,
        Self::StreamAborted,
        Self::ResponseReset,
        Self::ResponseIncomplete,
        Self::ConnectionClosed,
        Self::UploadUnread,
        Self::ResponseUnended,
        Self::UploadAborted,
        Self::UploadStopped,
        Self::BodyParsedAsRequest,
        Self::TooManyResponses,
        Self::ServedAfterClose,
        Self::NoConnection,
        Self::UnexpectedStatus,
        Self::Needless100,
        Self::SilentClose,
        Self::NotEarly,
    ];

    /// Returns how much it weighs.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::Needless100 | Self::SilentClose => Severity::Advice,
            Self::NotEarly => Severity::Note,
            _ => Severity::Fault,
        }
    }

    /// Explains the finding.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Lost => Verdict {
                title: "The response was lost",
                meaning: "The server closed the connection while the client was sending. Its \
                    kernel then reset the connection, and the client reports a reset or a broken \
                    pipe instead of the status.",
                rfc: STAGES,
                mend: LINGER,
            },
            Self::Cut => Verdict {
                title: "The response was cut",
                meaning: "Some of the response arrived, and then the connection ended. Either its \
                    framing shows that bytes are missing, or it has no length, and the \
                    connection ended in a reset.",
                rfc: "RFC 9112 §8 (incomplete messages), §9.6 (tear-down)",
                mend: LINGER,
            },
            Self::AfterReset => Verdict {
                title: "The response arrived by luck, after a reset",
                meaning: "A write failed, or a reset arrived, before the client had read the \
                    response. Linux keeps the bytes that it has received. Windows discards them, \
                    and many clients report the failed write and never read. Those clients lose \
                    this response.",
                rfc: STAGES,
                mend: LINGER,
            },
            Self::Stalled => Verdict {
                title: "Client and server waited for each other",
                meaning: "No byte moved until the timeout. Either the server does not respond, \
                    or its response does not fit into the socket's buffers while the client \
                    sends and does not read.",
                rfc: "RFC 9112 §9.5 (failures and timeouts)",
                mend: "Discard the upload while the response is written. Make sure that the \
                    server responds at all, and that --timeout is long enough for it.",
            },
            Self::StreamStopped => Verdict {
                title: "The HTTP/2 stream was reset with NO_ERROR during the upload",
                meaning: "RFC 9113 allows it, and a client that reads while it sends keeps the \
                    response. curl 7.88 and httpx do not: the first reports a failed stream, the \
                    second waits for a window that never opens.",
                rfc: "RFC 9113 §8.1 (early responses)",
                mend: "After the response, drain the stream for a while, and reset it only then. \
                    In Rust, the StreamLinger of tower-bodyguard does it. If it already does, \
                    its limits are 64 MiB and 2 s by default: raise them, or test with a smaller \
                    --size.",
            },
            Self::StreamAborted => Verdict {
                title: "The HTTP/2 stream was reset with an error code",
                meaning: "A client discards the response to a stream that was reset with an \
                    error, such as CANCEL.",
                rfc: "RFC 9113 §8.1 (early responses)",
                mend: "End the response with END_STREAM before the request body is dropped, and \
                    reset the stream with NO_ERROR.",
            },
            Self::ResponseReset => Verdict {
                title: "The HTTP/3 response was reset",
                meaning: "The server reset the stream before the response had ended. The client \
                    discards what has come of it.",
                rfc: "RFC 9114 §4.1 (early responses), §4.1.1 (cancellation)",
                mend: "Send the response to its end, even if the request body is dropped or \
                    fails. To end the upload, send STOP_SENDING with H3_NO_ERROR.",
            },
            Self::ResponseIncomplete => Verdict {
                title: "The HTTP/3 response is incomplete",
                meaning: "The server ended the stream without a response, or before the response \
                    had its Content-Length.",
                rfc: "RFC 9114 §4.1 (framing), §4.1.2 (malformed messages)",
                mend: "End the stream only behind the whole response. Many QUIC libraries end a \
                    stream when it is dropped: reset it if the response fails.",
            },
            Self::ConnectionClosed => Verdict {
                title: "The HTTP/3 connection was closed during the upload",
                meaning: "The server closed the whole connection before the client had read the \
                    response. Its other requests are lost, too.",
                rfc: "RFC 9114 §4.1 (early responses), §5.2 (shutdown)",
                mend: "Respond on the stream, and keep the connection. To end a connection, send \
                    GOAWAY, and close it with H3_NO_ERROR when its streams are over.",
            },
            Self::UploadUnread => Verdict {
                title: "The HTTP/3 upload was neither read nor stopped",
                meaning: "The window of the stream is full. A client that sends everything before \
                    it reads waits for the server to read, or to send STOP_SENDING.",
                rfc: EARLY_H3,
                mend: LINGER_H3,
            },
            Self::ResponseUnended => Verdict {
                title: "The HTTP/3 response did not end",
                meaning: "No byte moved until the timeout. Either the server does not respond, \
                    or it does not end the stream of its response.",
                rfc: "RFC 9114 §4.1 (framing)",
                mend: "End the stream behind the response, without waiting for the upload. Make \
                    sure that --timeout is long enough for the server.",
            },
            Self::UploadAborted => Verdict {
                title: "The HTTP/3 upload was stopped with an error code",
                meaning: "The code of STOP_SENDING should be H3_NO_ERROR. With another one, curl \
                    reports an error instead of the response. Some QUIC libraries send 0x0 when a \
                    request is dropped unread, which is no code of HTTP/3.",
                rfc: EARLY_H3,
                mend: LINGER_H3,
            },
            Self::UploadStopped => Verdict {
                title: "The HTTP/3 upload was stopped with H3_NO_ERROR",
                meaning: "RFC 9114 allows it, and a client that reads while it sends keeps the \
                    response. A client that sends everything first reports a failed upload, and \
                    fetch in Chromium never settles.",
                rfc: EARLY_H3,
                mend: "After the response, read the upload for a while, and stop it only then. In \
                    Rust, tower-bodyguard-h3 does it. If it already does, it reads for 30 s, and \
                    longer if the client is fast: raise that, or test with a smaller --size.",
            },
            Self::BodyParsedAsRequest => Verdict {
                title: "Bytes of the body were parsed as a request",
                meaning: "One request got more than one response. Anyone who controls an upload \
                    can smuggle requests past a proxy.",
                rfc: "RFC 9112 §9.3 (persistence), §11.2 (request smuggling)",
                mend: "Read the body to its end before the next request, or close the connection.",
            },
            Self::TooManyResponses => Verdict {
                title: "Two requests got more than two responses",
                meaning: "Bytes of the body were parsed as a request, or a request got two \
                    responses. The client takes one of them for the response to another request.",
                rfc: "RFC 9112 §9.3.2 (pipelining)",
                mend: "Read the body to its end before the next request, or close the connection.",
            },
            Self::ServedAfterClose => Verdict {
                title: "A request behind Connection: close was processed",
                meaning: "The response said that the connection ends, and then the server \
                    processed the next request. The client has to assume that it was not \
                    processed, and repeats it.",
                rfc: "RFC 9112 §9.6 (tear-down)",
                mend: "Discard everything that comes after a response with Connection: close.",
            },
            Self::NoConnection => Verdict {
                title: "The server no longer accepts connections",
                meaning: "A new connection failed after earlier ones had succeeded.",
                rfc: "",
                mend: "Look at the server's log: it may have crashed, or may be out of file \
                    descriptors.",
            },
            Self::UnexpectedStatus => Verdict {
                title: "The status is not the expected one",
                meaning: "The response has another status than --expect-status names.",
                rfc: "",
                mend: "Compare the limit of the server with --size, and the URL and the method \
                    with its routes.",
            },
            Self::Needless100 => Verdict {
                title: "100 Continue was sent needlessly",
                meaning: "The server invited the body, and then refused it before it was sent. Its \
                    bytes were sent in vain.",
                rfc: "RFC 9110 §10.1.1 (Expect)",
                mend: "Decide by the request head, and respond before the body is polled.",
            },
            Self::SilentClose => Verdict {
                title: "The connection was closed without Connection: close",
                meaning: "The client takes the connection for reusable. Its next request fails, \
                    and cannot be repeated safely if it was not idempotent.",
                rfc: "RFC 9112 §9.6 (tear-down), RFC 9110 §10.1.1",
                mend: "Send Connection: close, or drain the body and keep the connection. In \
                    Rust, the DeliveryLayer of tower-bodyguard does both.",
            },
            Self::NotEarly => Verdict {
                title: "The response was not early",
                meaning: "The upload was sent whole before the server responded, so this run \
                    does not tell whether early responses arrive.",
                rfc: "",
                mend: "Send more than the server accepts and its sockets buffer: raise --size. \
                    Or upload to a route that refuses.",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_listed_in_their_order() {
        assert!(Finding::ALL.is_sorted());
    }

    #[test]
    fn graver_findings_come_first() {
        assert!(Finding::ALL.map(Finding::severity).is_sorted());
    }

    #[test]
    fn each_verdict_has_words_and_a_mend() {
        for finding in Finding::ALL {
            let verdict = finding.verdict();
            assert!(!verdict.title.is_empty() && !verdict.meaning.is_empty());
            assert!(verdict.mend.ends_with('.'), "{finding:?}");
        }
    }
}
