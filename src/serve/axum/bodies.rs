use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;

use crate::BoxError;

/// Returns a request's body in axum's own type. A body that is at its end, by both of the
/// things that it says of itself, becomes one that cannot yield: it needs no box, and nothing
/// to count it.
pub(super) fn axum_body<B>(body: B) -> Body
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    match is_empty(&body) {
        true => Body::empty(),
        false => Body::new(body),
    }
}

/// Whether a body is at its end, and its size hint does not contradict that.
pub(super) fn is_empty<B: HttpBody>(body: &B) -> bool {
    body.is_end_stream() && body.size_hint().exact() == Some(0)
}

/// axum's own body. One that was wrapped where there proves to be nothing to see to needs no
/// second box.
pub(super) fn own<W, B>(wrapped: W, into_plain: impl FnOnce(W) -> Result<B, W>) -> Body
where
    W: HttpBody<Data = Bytes> + Send + 'static,
    W::Error: Into<BoxError>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let boxed = |wrapped: W| Body::new(wrapped.map_err(|error| bare(error.into())));
    into_plain(wrapped).map_or_else(boxed, Body::new)
}

/// An error of axum's only wraps another one. axum's extractors look for what is wrong with a
/// body beneath one or two of them, and not any deeper.
fn bare(error: BoxError) -> BoxError {
    match error.downcast::<axum::Error>() {
        Ok(error) => error.into_inner(),
        Err(error) => error,
    }
}
