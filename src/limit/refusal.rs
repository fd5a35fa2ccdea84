use std::fmt;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header::ACCEPT};

use super::size::Size;

/// Why a request was refused, and the numbers.
///
/// It is what [`on_refusal`](super::BodyGuardLayer::on_refusal) gets to write an
/// answer from, and it stays in the extensions of the response, so that layers
/// further out can count and log it. As text it is one paragraph for the client:
///
/// > The request body has 20971520 bytes (20 MiB); at most 4194304 bytes (4 MiB)
/// > are accepted here. Send a smaller one.
#[derive(Clone, Debug)]
pub struct Refusal {
    kind: Kind,
    status: StatusCode,
    limit: u64,
    request: Asked,
}

/// What was wrong with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// `Content-Length` declares more bytes than the limit. The handler never ran.
    Declared {
        /// The declared length, in bytes.
        length: u64,
    },
    /// More bytes than the limit came.
    Streamed {
        /// How many bytes had come when the limit was passed: not the length of
        /// the body, which nobody knows.
        received: u64,
    },
    /// `Content-Length` is not one decimal number that fits 64 bits, or there
    /// are several that differ (RFC 9110 §8.6). The handler never ran.
    BadLength,
}

/// What the answer must know of the request once its head is with the handler.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    accept: Option<HeaderValue>,
    by_head: bool,
}

impl Asked {
    pub(super) fn of(method: &Method, headers: &HeaderMap) -> Self {
        Self {
            accept: headers.get(ACCEPT).cloned(),
            by_head: method == Method::HEAD,
        }
    }
}

impl Refusal {
    pub(super) fn new(kind: Kind, status: StatusCode, limit: u64, request: Asked) -> Self {
        Self {
            kind,
            status,
            limit,
            request,
        }
    }

    /// The status to answer with: 413, or 400 for a bad `Content-Length`, unless
    /// the layer was told [otherwise](super::BodyGuardLayer::status).
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What was wrong.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The limit that applied, in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The length that the request declared, in bytes, where that was too much.
    #[must_use]
    pub fn declared(&self) -> Option<u64> {
        match self.kind {
            Kind::Declared { length } => Some(length),
            _ => None,
        }
    }

    /// How many bytes had come when the limit was passed, where it was passed
    /// while the body streamed.
    #[must_use]
    pub fn received(&self) -> Option<u64> {
        match self.kind {
            Kind::Streamed { received } => Some(received),
            _ => None,
        }
    }

    /// Whether the client would rather be shown a page: its `Accept` names
    /// `text/html` (or XHTML) and does not weigh it at nothing. Browsers name it
    /// when they navigate; `fetch`, curl and libraries do not.
    #[must_use]
    pub fn prefers_html(&self) -> bool {
        let accept = self.request.accept.as_ref();
        let Some(accept) = accept.and_then(|value| value.to_str().ok()) else {
            return false;
        };
        accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let html = ["text/html", "application/xhtml+xml"]
                .iter()
                .any(|html| kind.eq_ignore_ascii_case(html));
            // A weight of zero is written `0`, `0.` or with up to three zeros.
            html && !parts.any(|parameter| {
                parameter
                    .strip_prefix(['q', 'Q'])
                    .and_then(|rest| rest.strip_prefix('='))
                    .is_some_and(|q| q.chars().all(|c| matches!(c, '0' | '.')))
            })
        })
    }

    /// Whether the request was a HEAD, whose answer has no body.
    pub(super) fn by_head(&self) -> bool {
        self.request.by_head
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = Size(self.limit);
        match self.kind {
            Kind::Declared { length } => write!(
                f,
                "The request body has {}; at most {limit} are accepted here. Send a smaller one.",
                Size(length),
            ),
            Kind::Streamed { received } => write!(
                f,
                "The request body is too long: {} had come, and at most {limit} are accepted \
                 here. Send a smaller one.",
                Size(received),
            ),
            Kind::BadLength => f.write_str(
                "The Content-Length of the request is not one decimal number. Send the length \
                 of the body in bytes, once.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(accept: Option<&'static str>) -> Refusal {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        Refusal::new(
            Kind::Declared { length: 20 << 20 },
            StatusCode::PAYLOAD_TOO_LARGE,
            4 << 20,
            Asked::of(&Method::POST, &headers),
        )
    }

    #[test]
    fn says_the_limit_the_length_and_what_to_do() {
        assert_eq!(
            refusal(None).to_string(),
            "The request body has 20971520 bytes (20 MiB); at most 4194304 bytes (4 MiB) are \
             accepted here. Send a smaller one."
        );
    }

    #[test]
    fn html_is_for_those_who_ask_for_it() {
        let chromium = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        assert!(refusal(Some(chromium)).prefers_html());
        assert!(refusal(Some("TEXT/HTML; q=0.1")).prefers_html());
        assert!(!refusal(Some("text/html;q=0.000, */*")).prefers_html());
        assert!(!refusal(Some("*/*")).prefers_html());
        assert!(!refusal(Some("application/json")).prefers_html());
        assert!(!refusal(None).prefers_html());
    }
}
