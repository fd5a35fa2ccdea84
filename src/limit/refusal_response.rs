//! The responses to refused requests: plain text, problem JSON, HTML, or custom.

use std::fmt::{self, Write};

use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{CONTENT_LENGTH, CONTENT_TYPE, VARY},
};

use super::ResponseBody;
use crate::refusal::{Refusal, RefusalFormat, RefusalKind};

/// Makes the response to a refused request.
///
/// `B` is the body type of the inner service's responses. A closure from [`&Refusal`](Refusal)
/// to `Response<B>` implements the trait. So do [`PlainText`], [`ProblemJson`], [`HtmlPage`] and
/// [`Negotiated`], which work with any service. Implement the trait for a custom response that
/// works with any service:
///
/// ```
/// use bytes::Bytes;
/// use http::Response;
/// use tower_bodyguard::{
///     BodyGuardLayer, MIB, Refusal,
///     limit::{RefusalResponse, ResponseBody},
/// };
///
/// #[derive(Clone)]
/// struct Short;
///
/// impl<B> RefusalResponse<B> for Short {
///     fn respond(&self, refusal: &Refusal) -> Response<ResponseBody<B>> {
///         let mut response = Response::new(ResponseBody::from(Bytes::from("no\n")));
///         *response.status_mut() = refusal.status();
///         response
///     }
/// }
///
/// let layer = BodyGuardLayer::new(4 * MIB).refusal_response(Short);
/// ```
///
/// # Panics in callbacks
///
/// A panic reaches the server: hyper drops the connection.
#[diagnostic::on_unimplemented(
    message = "`{Self}` makes no response with the body `{B}` to a refusal",
    note = "pass `PlainText`, `ProblemJson`, `HtmlPage` or `Negotiated` of `tower_bodyguard::limit`, or a closure `|refusal: &Refusal| -> Response<_>` with the body type of the service's own responses"
)]
pub trait RefusalResponse<B> {
    /// Returns the response to `refusal`. The status 200, which a response has if nothing sets it,
    /// is replaced by [`Refusal::status`].
    fn respond(&self, refusal: &Refusal) -> Response<ResponseBody<B>>;
}

impl<F, B> RefusalResponse<B> for F
where
    F: Fn(&Refusal) -> Response<B>,
{
    fn respond(&self, refusal: &Refusal) -> Response<ResponseBody<B>> {
        self(refusal).map(ResponseBody::of_service)
    }
}

/// The default response: the [message](Refusal::message) as `text/plain`.
///
/// ```
/// use tower_bodyguard::{BodyGuardLayer, MIB, limit::PlainText};
///
/// // The same as without this call.
/// let layer = BodyGuardLayer::new(4 * MIB).refusal_response(PlainText);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainText;

/// A machine-readable response as `application/problem+json` (RFC 9457).
///
/// ```json
/// {"type":"https://docs.rs/tower-bodyguard/latest/tower_bodyguard/limit/struct.ProblemJson.html#content-too-large",
///  "title":"Content Too Large","status":413,
///  "detail":"Upload too large: 20 MiB. The limit is 4 MiB. Choose a smaller file.",
///  "limit":4194304,"declared":20971520}
/// ```
///
/// The members `type`, `title`, `status` and `detail` are in each response. The `detail` is the
/// [message](Refusal::message) for people. The other members depend on the type, and are numbers.
/// Programs use the `type` and these numbers; new members may be added.
///
/// The types are URLs of the sections below. For types and members of your own, return a JSON
/// response from a [closure](crate::BodyGuardLayer::refusal_response).
///
/// # `content-too-large`
///
/// The body is over the limit. The same body would be refused again.
///
/// - `limit`: the limit in bytes.
/// - `declared`: the length that the request declared, in bytes; or
/// - `received`: the number of bytes that had arrived when the limit was exceeded. The whole body
///   is longer.
///
/// If the limit [is hidden](crate::BodyGuardLayer::hide_limit), `limit` and `received` are left out.
///
/// # `upload-too-slow`
///
/// The body was slower than the [minimum rate](crate::BodyGuardLayer::min_rate).
///
/// - `min_bytes_per_second`: the minimum rate.
/// - `retry_after_seconds`: when to try again, if that [is set](crate::BodyGuardLayer::retry_after).
///
/// # `upload-timed-out`
///
/// The client was silent for too long, or the whole body took too long.
///
/// - `idle_timeout_seconds`: the [idle timeout](crate::BodyGuardLayer::idle_timeout); or
/// - `deadline_seconds`: the [deadline](crate::BodyGuardLayer::deadline) for the whole body.
/// - `retry_after_seconds`: as above.
///
/// # `no-room`
///
/// The server is receiving other uploads. The same request may pass later.
///
/// - `retry_after_seconds`: when to try again, as in `Retry-After`.
///
/// # `bad-content-length`
///
/// `Content-Length` is not one decimal number.
///
/// # `length-required`
///
/// `Content-Length` is missing, and the server requires it.
///
/// # Example
///
/// ```
/// use tower_bodyguard::{BodyGuardLayer, MIB, limit::ProblemJson};
///
/// let layer = BodyGuardLayer::new(4 * MIB).refusal_response(ProblemJson);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ProblemJson;

/// A response as a small HTML page, which tells the user how to go back.
///
/// ```
/// use tower_bodyguard::{BodyGuardLayer, MIB, limit::HtmlPage};
///
/// let layer = BodyGuardLayer::new(4 * MIB).refusal_response(HtmlPage);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct HtmlPage;

/// A response as [`PlainText`], [`ProblemJson`] or [`HtmlPage`], depending on the formats that
/// the client [accepts](Refusal::format).
///
/// It has `Vary: accept`. A compression layer around the limit adds `accept-encoding` to that.
///
/// ```
/// use tower_bodyguard::{BodyGuardLayer, MIB, limit::Negotiated};
///
/// let layer = BodyGuardLayer::new(4 * MIB).refusal_response(Negotiated);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Negotiated;

impl<B> RefusalResponse<B> for PlainText {
    fn respond(&self, refusal: &Refusal) -> Response<ResponseBody<B>> {
        let mut text = refusal.message();
        text.push('\n');
        response(refusal, "text/plain; charset=utf-8", text)
    }
}

impl<B> RefusalResponse<B> for ProblemJson {
    fn respond(&self, refusal: &Refusal) -> Response<ResponseBody<B>> {
        // The text is our own words and numbers, none of which needs an escape.
        let mut json = format!(
            r#"{{"type":"{PROBLEM_TYPES}{}","title":"{}","status":{},"detail":"{}""#,
            problem_type(refusal.kind()),
            refusal.title(),
            refusal.status().as_u16(),
            refusal.message(),
        );
        write_members(&mut json, refusal);
        json.push('}');
        response(refusal, "application/problem+json", json)
    }
}

/// The page that has a section for each type of problem.
const PROBLEM_TYPES: &str =
    "https://docs.rs/tower-bodyguard/latest/tower_bodyguard/limit/struct.ProblemJson.html#";

/// Returns the section of [`ProblemJson`]'s documentation about the kind of refusal.
fn problem_type(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::Declared { .. } | RefusalKind::Streamed { .. } => "content-too-large",
        RefusalKind::TooSlow { .. } => "upload-too-slow",
        RefusalKind::IdleTimeout { .. } | RefusalKind::DeadlineExceeded { .. } => {
            "upload-timed-out"
        }
        RefusalKind::OverBudget { .. } => "no-room",
        RefusalKind::BadLength => "bad-content-length",
        RefusalKind::LengthRequired => "length-required",
    }
}

fn write_members(json: &mut String, refusal: &Refusal) {
    let mut member = |name: &str, value: &dyn fmt::Display| {
        // Writing to a string does not fail.
        let _ = write!(json, r#","{name}":{value}"#);
    };
    match (refusal.kind(), refusal.shown_limit()) {
        (RefusalKind::Declared { length }, limit) => {
            if let Some(limit) = limit {
                member("limit", &limit);
            }
            member("declared", &length);
        }
        // The number of bytes received would reveal a hidden limit.
        (RefusalKind::Streamed { received }, Some(limit)) => {
            member("limit", &limit);
            member("received", &received);
        }
        (RefusalKind::TooSlow { rate }, _) => member("min_bytes_per_second", &rate),
        (RefusalKind::IdleTimeout { timeout }, _) => {
            member("idle_timeout_seconds", &timeout.as_secs_f64());
        }
        (RefusalKind::DeadlineExceeded { deadline }, _) => {
            member("deadline_seconds", &deadline.as_secs_f64());
        }
        _ => {}
    }
    if let Some(delay) = refusal.retry_after() {
        member("retry_after_seconds", &delay.as_secs());
    }
}

impl<B> RefusalResponse<B> for HtmlPage {
    fn respond(&self, refusal: &Refusal) -> Response<ResponseBody<B>> {
        let title = refusal.title();
        let status = refusal.status().as_u16();
        let heading = refusal.heading();
        // A link back would need a script, so the text says to go back.
        let paragraph = refusal.paragraph();
        let page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{status} {title}</title>\n<h1>{heading}</h1>\n<p>{paragraph}</p>\n</html>\n"
        );
        response(refusal, "text/html; charset=utf-8", page)
    }
}

impl<B> RefusalResponse<B> for Negotiated {
    fn respond(&self, refusal: &Refusal) -> Response<ResponseBody<B>> {
        let mut response = match refusal.format() {
            RefusalFormat::Html => HtmlPage.respond(refusal),
            RefusalFormat::ProblemJson => ProblemJson.respond(refusal),
            RefusalFormat::Text => PlainText.respond(refusal),
        };
        let vary = HeaderValue::from_static("accept");
        response.headers_mut().insert(VARY, vary);
        response
    }
}

fn response<B>(refusal: &Refusal, kind: &'static str, text: String) -> Response<ResponseBody<B>> {
    let length = HeaderValue::from(text.len());
    let mut response = Response::new(ResponseBody::from(Bytes::from(text)));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, length);
    response
}
