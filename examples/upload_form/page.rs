//! Responses for people and scripts: HTML templates and plain text.

use std::convert::Infallible;

use askama::Template;
use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use humansize::{BINARY, format_size};

use crate::app::Config;
use crate::store::Stored;

/// The maximum number of characters of a file name that are shown.
const MAX_NAME: usize = 120;

/// The format that a client asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    Html,
    Text,
}

impl<S: Sync> FromRequestParts<S> for Format {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let html = parts.headers.get_all(ACCEPT).iter().any(|accept| {
            accept
                .to_str()
                .is_ok_and(|accept| accept.contains("text/html"))
        });
        Ok(if html { Self::Html } else { Self::Text })
    }
}

#[derive(Template)]
#[template(path = "form.html")]
struct Form {
    limit: u64,
    limit_in_units: String,
    /// Whether the page has a field for the token.
    token: bool,
    /// Whether the page has the box that skips its own check.
    demo: bool,
}

#[derive(Template)]
#[template(path = "stored.html")]
struct StoredFiles<'a> {
    files: &'a [Stored],
}

#[derive(Template)]
#[template(path = "problem.html")]
struct Problem<'a> {
    code: u16,
    reason: &'a str,
    words: &'a str,
}

pub(crate) fn form(config: &Config) -> Response {
    html(
        StatusCode::OK,
        &Form {
            limit: config.limit,
            limit_in_units: in_units(config.limit),
            token: config.token.is_some(),
            demo: config.demo,
        },
    )
}

pub(crate) fn stored(format: Format, files: &[Stored]) -> Response {
    match format {
        Format::Html => html(StatusCode::OK, &StoredFiles { files }),
        Format::Text => files
            .iter()
            .map(|file| format!("{}  {} bytes  {}\n", file.sha256, file.size, file.name))
            .collect::<String>()
            .into_response(),
    }
}

pub(crate) fn problem(format: Format, status: StatusCode, words: &str) -> Response {
    let reason = match status {
        // The name in RFC 9110.
        StatusCode::PAYLOAD_TOO_LARGE => "Content Too Large",
        _ => status.canonical_reason().unwrap_or_default(),
    };
    match format {
        Format::Html => html(
            status,
            &Problem {
                code: status.as_u16(),
                reason,
                words,
            },
        ),
        Format::Text => (status, format!("{words}\n")).into_response(),
    }
}

impl Stored {
    fn size_in_units(&self) -> String {
        in_units(self.size)
    }
}

/// Returns a size for people: `1.4 MiB`.
fn in_units(bytes: u64) -> String {
    format_size(bytes, BINARY.decimal_places(1))
}

fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(page) => (status, Html(page)).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot render a page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Returns a client's file name on one line and with a limited length. The name is only displayed:
/// templates escape it, and the store never sees it.
pub(crate) fn shown_name(name: &str) -> String {
    if name.is_empty() {
        return "(no name)".into();
    }
    let mut chars = name
        .chars()
        .map(|c| if misleads(c) { '\u{fffd}' } else { c });
    let mut shown: String = chars.by_ref().take(MAX_NAME).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Returns whether the character is a control character, a line end, or changes the text direction.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns the routes of styles and scripts. Pages then need none inline.
pub(crate) fn assets<S: Clone + Send + Sync + 'static>() -> Router<S> {
    const JS: &str = "text/javascript; charset=utf-8";
    let asset = |kind: &'static str, text: &'static str| get(([(CONTENT_TYPE, kind)], text));
    Router::new()
        .route(
            "/assets/page.css",
            asset("text/css; charset=utf-8", include_str!("page/page.css")),
        )
        .route("/assets/form.js", asset(JS, include_str!("page/form.js")))
        .route(
            "/assets/multipart.js",
            asset(JS, include_str!("page/multipart.js")),
        )
        .route(
            "/assets/response.js",
            asset(JS, include_str!("page/response.js")),
        )
        .route(
            "/assets/icon.svg",
            asset("image/svg+xml", include_str!("page/icon.svg")),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_on_one_line() {
        assert_eq!(
            shown_name("a\r\nb\0c\u{202e}gpj"),
            "a\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}gpj"
        );
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(shown_name(&"ß".repeat(MAX_NAME)), "ß".repeat(MAX_NAME));
        assert_eq!(shown_name(&"ß".repeat(10_000)), "ß".repeat(MAX_NAME) + "…");
    }
}
