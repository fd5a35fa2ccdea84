use axum::body::{Body, Bytes, HttpBody};

use crate::BoxError;

/// axum's own body. One that was wrapped where there proves to be nothing to see to needs no
/// second box.
pub(super) fn own<W, B>(wrapped: W, into_plain: impl FnOnce(W) -> Result<B, W>) -> Body
where
    W: HttpBody<Data = Bytes> + Send + 'static,
    W::Error: Into<BoxError>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    into_plain(wrapped).map_or_else(Body::new, Body::new)
}
