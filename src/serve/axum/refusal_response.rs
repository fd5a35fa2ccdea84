use std::{fmt, sync::Arc};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};

use super::bodies::own;
use crate::{
    Refusal,
    limit::{HtmlPage, Negotiated, PlainText, ProblemJson, RefusalResponse, ResponseBody},
};

/// Makes axum's response to a refused request. [`PlainText`], [`ProblemJson`], [`HtmlPage`] and
/// [`Negotiated`] implement it, and so do closures from [`Refusal`] to anything that is
/// [`IntoResponse`].
///
/// # Panics in callbacks
///
/// A panic reaches the server, and hyper drops the connection.
#[diagnostic::on_unimplemented(
    message = "`{Self}` makes no response of axum's to a refusal",
    note = "pass `PlainText`, `ProblemJson`, `HtmlPage` or `Negotiated` of `tower_bodyguard::limit`, or a closure `|refusal: &Refusal| -> impl IntoResponse`"
)]
pub trait RefusalIntoResponse {
    /// Returns the response to `refusal`. The status 200, which a response has if nothing sets it,
    /// is replaced by [`Refusal::status`].
    fn respond(&self, refusal: &Refusal) -> Response;
}

impl<F, T> RefusalIntoResponse for F
where
    F: Fn(&Refusal) -> T,
    T: IntoResponse,
{
    fn respond(&self, refusal: &Refusal) -> Response {
        self(refusal).into_response()
    }
}

macro_rules! respond_as_for_any_service {
    ($($response:ident)*) => {$(
        impl RefusalIntoResponse for $response {
            fn respond(&self, refusal: &Refusal) -> Response {
                let response = RefusalResponse::<Body>::respond(self, refusal);
                response.map(|body| own(body, ResponseBody::into_plain))
            }
        }
    )*};
}

respond_as_for_any_service!(PlainText ProblemJson HtmlPage Negotiated);

/// A refusal response whose type is erased. [`serve`](super::serve()) makes one for each connection,
/// because the connections of two cores would contend for one reference count.
#[derive(Clone)]
pub struct AnyRefusalResponse(Arc<dyn RefusalIntoResponse + Send + Sync>);

impl AnyRefusalResponse {
    pub(super) fn new<R>(response: R) -> Self
    where
        R: RefusalIntoResponse + Send + Sync + 'static,
    {
        Self(Arc::new(response))
    }
}

impl fmt::Debug for AnyRefusalResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyRefusalResponse")
    }
}

impl RefusalIntoResponse for AnyRefusalResponse {
    fn respond(&self, refusal: &Refusal) -> Response {
        self.0.respond(refusal)
    }
}

/// An adapter that makes the responses of the limit layer with axum's own body.
#[derive(Clone, Debug)]
pub struct AxumResponse<R>(pub(super) R);

impl<R: RefusalIntoResponse> RefusalResponse<Body> for AxumResponse<R> {
    fn respond(&self, refusal: &Refusal) -> Response<ResponseBody<Body>> {
        self.0.respond(refusal).map(ResponseBody::of_service)
    }
}
