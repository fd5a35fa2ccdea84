//! The responses to refused requests: plain text, problem JSON, HTML, or custom.

use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{CONTENT_LENGTH, CONTENT_TYPE, VARY},
};

use super::ResponseBody;
use crate::refusal::{Refusal, RefusalFormat};

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
/// Its members are `type`, `title`, `status`, and the [message](Refusal::message) as `detail`. A
/// body over the limit adds `limit`, and `declared` or `received`, all in bytes.
/// [`hide_limit`](crate::BodyGuardLayer::hide_limit) leaves out `limit` and `received`.
///
/// ```json
/// {"type":"about:blank","title":"Content Too Large","status":413,
///  "detail":"Upload too large: 20 MiB. The limit is 4 MiB. Choose a smaller file.",
///  "limit":4194304,"declared":20971520}
/// ```
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
        let member = |name: &str, bytes: Option<u64>| {
            bytes.map_or_else(String::new, |bytes| format!(r#","{name}":{bytes}"#))
        };
        let shows_limit = !refusal.is_limit_hidden();
        let too_large = refusal.declared().or(refusal.received()).is_some();
        // The text is our own words and numbers, none of which needs an escape.
        let json = format!(
            r#"{{"type":"about:blank","title":"{}","status":{},"detail":"{}"{}{}{}}}"#,
            refusal.title(),
            refusal.status().as_u16(),
            refusal.message(),
            member(
                "limit",
                refusal.limit().filter(|_| shows_limit && too_large)
            ),
            member("declared", refusal.declared()),
            member("received", refusal.received().filter(|_| shows_limit)),
        );
        response(refusal, "application/problem+json", json)
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
