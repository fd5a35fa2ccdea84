//! The headers that say whether a connection closes.

use http::{HeaderMap, HeaderName, HeaderValue, Response, Version, header::CONNECTION};

/// Returns whether the client expects the connection to close after the response (RFC 9112 §9.3).
#[inline]
pub(super) fn closes(version: Version, headers: &HeaderMap) -> bool {
    match version {
        Version::HTTP_11 => has_token(headers, &CONNECTION, "close"),
        _ => !has_token(headers, &CONNECTION, "keep-alive"),
    }
}

/// Returns whether a list header (RFC 9110 §5.6.1) has the token.
#[inline]
pub(super) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    // Most requests have no such header, or one with this token alone.
    headers.get(name).is_some_and(|first| {
        first.as_bytes().eq_ignore_ascii_case(token.as_bytes())
            || list_has_token(headers, name, token)
    })
}

fn list_has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|member| member.trim().eq_ignore_ascii_case(token))
}

/// Adds `Connection: close` to the response's other connection options.
pub(super) fn say_close<B>(response: &mut Response<B>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().append(CONNECTION, close);
}
