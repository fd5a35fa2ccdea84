use std::{
    convert::Infallible,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    RequestExt,
    body::{Body, Bytes, HttpBody},
    extract::{DefaultBodyLimit, Request},
};
use http_body::Frame;

/// Lifts axum's built-in limit of 2 MB for extractors, and leaves a [`DefaultBodyLimit`] that
/// an outer layer has set as it is.
///
/// axum keeps the limit in a private extension of the request. The number of extensions shows
/// whether inserting one has replaced another. Because the old value is lost then, it is read
/// before.
pub(super) fn lift_default_limit<B>(request: &mut Request<B>) {
    let before = request.extensions().len();
    let set = match before {
        0 => None,
        _ => match limit_of_extractors(request) {
            None => return,
            limit => limit,
        },
    };
    DefaultBodyLimit::disable().apply(request);
    let was_set = request.extensions().len() == before;
    if let Some(limit) = set.filter(|_| was_set) {
        DefaultBodyLimit::max(limit).apply(request);
    }
}

/// Returns the limit that axum's extractors would apply to the body. Returns `None` if it is
/// disabled.
fn limit_of_extractors<B>(request: &mut Request<B>) -> Option<usize> {
    let mut probe = Request::new(Body::new(Endless));
    mem::swap(probe.extensions_mut(), request.extensions_mut());
    let mut probe = probe.with_limited_body();
    mem::swap(probe.extensions_mut(), request.extensions_mut());
    let limit = probe.body().size_hint().upper()?;
    // The limit was a `usize` when it was set.
    usize::try_from(limit).ok()
}

/// A body of unknown length, so that its limited form has the limit in its size hint. It has no
/// size, so boxing it allocates nothing.
struct Endless;

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // The body is never read.
        Poll::Ready(None)
    }
}
