//! Picks the format of a refusal that the client prefers.

use http::HeaderValue;

/// The format of a refusal that the client prefers, according to its `Accept` header.
///
/// A response that depends on it has `Vary: accept`, so that no cache serves it to another client.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::response::{Html, IntoResponse, Response};
/// use tower_bodyguard::{BodyGuardLayer, MIB, Refusal, limit::RefusalFormat};
///
/// fn refused(refusal: &Refusal) -> Response {
///     let response = match refusal.format() {
///         RefusalFormat::Html => Html(format!("<h1>{}</h1>", refusal.message())).into_response(),
///         _ => refusal.message().into_response(),
///     };
///     (refusal.status(), [("vary", "accept")], response).into_response()
/// }
///
/// let layer = BodyGuardLayer::axum(4 * MIB).refusal_response(refused);
/// # let _: axum::Router = axum::Router::new().layer(layer);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalFormat {
    /// `text/html`, which browsers request when they navigate.
    Html,
    /// `application/problem+json`, or `application/json`.
    ProblemJson,
    /// Plain text, for any other `Accept` and for none.
    Text,
}

impl RefusalFormat {
    /// Returns the format with the highest weight in the header (RFC 9110 §12.5.1), and the first
    /// of several with that weight.
    ///
    /// Wildcards do not count: curl and `fetch` send `*/*`, and their users want a line of text.
    pub(super) fn of(accept: Option<&HeaderValue>) -> Self {
        let ranges = accept.and_then(|value| value.to_str().ok()).unwrap_or("");
        let mut best = (Self::Text, 0);
        for (form, weight) in ranges.split(',').filter_map(named) {
            if weight > best.1 {
                best = (form, weight);
            }
        }
        best.0
    }
}

/// Returns the format that a media range names, and its weight in thousandths.
fn named(range: &str) -> Option<(RefusalFormat, u16)> {
    let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
    let name = name.trim();
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    let form = if is("text/html") || is("application/xhtml+xml") {
        RefusalFormat::Html
    } else if is("application/problem+json") || is("application/json") {
        RefusalFormat::ProblemJson
    } else if is("text/plain") {
        RefusalFormat::Text
    } else {
        return None;
    };
    let weight = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let q = name.trim().eq_ignore_ascii_case("q");
        q.then(|| thousandths(value.trim()))
    });
    Some((form, weight.unwrap_or(1000)))
}

/// Parses a `qvalue` (RFC 9110 §12.4.2). An invalid one has the weight 0.
fn thousandths(value: &str) -> u16 {
    match value.parse::<f32>() {
        Ok(q) if (0.0..=1.0).contains(&q) => (q * 1000.0) as u16,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format_of(value: &'static str) -> RefusalFormat {
        RefusalFormat::of(Some(&HeaderValue::from_static(value)))
    }

    #[test]
    fn accept_headers_of_clients_are_understood() {
        let chromium = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        assert_eq!(format_of(chromium), RefusalFormat::Html);
        assert_eq!(format_of("*/*"), RefusalFormat::Text);
        assert_eq!(
            format_of("application/json, text/plain, */*"),
            RefusalFormat::ProblemJson
        );
        assert_eq!(format_of("text/plain"), RefusalFormat::Text);
        assert_eq!(
            format_of("application/problem+json"),
            RefusalFormat::ProblemJson
        );
        assert_eq!(RefusalFormat::of(None), RefusalFormat::Text);
    }

    #[test]
    fn weights_decide() {
        assert_eq!(
            format_of("text/html;q=0.2, application/json;q=0.9"),
            RefusalFormat::ProblemJson
        );
        assert_eq!(format_of("TEXT/HTML; Q=0.1"), RefusalFormat::Html);
        assert_eq!(format_of("text/html;q=0.000, */*"), RefusalFormat::Text);
        assert_eq!(
            format_of("text/html;level=1;q=0.5, text/plain;q=0.4"),
            RefusalFormat::Html
        );
        assert_eq!(format_of("text/html;q=high"), RefusalFormat::Text);
    }
}
