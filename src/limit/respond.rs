//! How a refusal becomes a response.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};

use super::{Refusal, ResponseBody};

/// Makes the response to a refused request.
///
/// `B` is the body type of the guarded service's own responses. Closures get
/// in by [`BodyGuardLayer::on_refusal`](super::BodyGuardLayer::on_refusal); the
/// trait itself is for answers that work with any service, such as
/// [`PlainText`].
///
/// # Panics in callbacks
///
/// A panic goes through to the server: hyper drops the connection.
pub trait OnRefusal<B> {
    /// The response to `refusal`, with the status it is to have.
    fn respond(&self, refusal: &Refusal) -> Response<ResponseBody<B>>;
}

/// The default answer: the refusal in words, as `text/plain`.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainText;

impl<B> OnRefusal<B> for PlainText {
    fn respond(&self, refusal: &Refusal) -> Response<ResponseBody<B>> {
        let text = Bytes::from(format!("{refusal}\n"));
        let length = HeaderValue::from(text.len());
        let mut response = Response::new(ResponseBody::text(text));
        *response.status_mut() = refusal.status();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(CONTENT_LENGTH, length);
        response
    }
}

/// A closure's answer, see
/// [`BodyGuardLayer::on_refusal`](super::BodyGuardLayer::on_refusal).
pub struct Custom<F>(Arc<F>);

impl<F> Custom<F> {
    pub(super) fn new(respond: F) -> Self {
        Self(Arc::new(respond))
    }
}

impl<F, B> OnRefusal<B> for Custom<F>
where
    F: Fn(&Refusal) -> Response<B>,
{
    fn respond(&self, refusal: &Refusal) -> Response<ResponseBody<B>> {
        (self.0)(refusal).map(ResponseBody::of_service)
    }
}

impl<F> Clone for Custom<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F> fmt::Debug for Custom<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Custom").finish_non_exhaustive()
    }
}
