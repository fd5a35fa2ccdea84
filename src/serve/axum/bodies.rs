use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;

use crate::BoxError;

/// Converts a request body to axum's own type. A body that is at its end, by both `is_end_stream`
/// and its size hint, becomes an empty body. An empty body needs no box and no byte counter.
fn axum_body<B>(body: B) -> Body
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    match is_empty(&body) {
        true => Body::empty(),
        false => Body::new(body),
    }
}

/// Returns whether a body is at its end and its size hint does not contradict that.
pub(super) fn is_empty<B: HttpBody>(body: &B) -> bool {
    body.is_end_stream() && body.size_hint().exact() == Some(0)
}

/// Converts a wrapped body to axum's own type. If the wrapper has nothing to do, only the inner
/// body is boxed, and needs no second box.
pub(super) fn own<W, B>(wrapped: W, into_plain: impl FnOnce(W) -> Result<B, W>) -> Body
where
    W: HttpBody<Data = Bytes> + Send + 'static,
    W::Error: Into<BoxError>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let boxed = |wrapped: W| Body::new(wrapped.map_err(|error| bare(error.into())));
    into_plain(wrapped).map_or_else(boxed, axum_body)
}

/// Unwraps an `axum::Error`, which only wraps another error. axum's extractors look for the cause
/// of a body's error beneath one or two of these, but not deeper.
fn bare(error: BoxError) -> BoxError {
    match error.downcast::<axum::Error>() {
        Ok(error) => error.into_inner(),
        Err(error) => error,
    }
}
