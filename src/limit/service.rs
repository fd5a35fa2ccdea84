use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode};
use http_body::Body;
use tower_service::Service;

use super::{
    GuardedBody, Kind, OnRefusal, PlainText, Refusal, ResponseBody, ResponseFuture,
    content_length::content_length, future::Watch, overrun::Overrun, refusal::Asked,
};
use crate::BoxError;

/// The service that [`BodyGuardLayer`](super::BodyGuardLayer) makes.
#[derive(Clone, Copy, Debug)]
pub struct BodyGuard<S, R = PlainText> {
    inner: S,
    limit: u64,
    status: StatusCode,
    respond: R,
}

impl<S, R> BodyGuard<S, R> {
    pub(super) fn new(inner: S, limit: u64, status: StatusCode, respond: R) -> Self {
        Self {
            inner,
            limit,
            status,
            respond,
        }
    }

    /// The head decides: refused already, or to be watched while it streams.
    fn inspect<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let (kind, status) = match content_length(request.headers()) {
            Ok(Some(length)) if length > self.limit => (Kind::Declared { length }, self.status),
            Ok(_) => return Ok(()),
            Err(_) => (Kind::BadLength, StatusCode::BAD_REQUEST),
        };
        let asked = Asked::of(request.method(), request.headers());
        Err(Refusal::new(kind, status, self.limit, asked))
    }
}

impl<S, ReqB, ResB, R> Service<Request<ReqB>> for BodyGuard<S, R>
where
    S: Service<Request<GuardedBody<ReqB>>, Response = Response<ResB>>,
    ReqB: Body + Unpin,
    ReqB::Error: Into<BoxError>,
    ResB: Body,
    R: OnRefusal<ResB> + Clone,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        if let Err(refusal) = self.inspect(&request) {
            return ResponseFuture::refused(refusal, self.respond.clone());
        }

        let (parts, body) = request.into_parts();
        if body.is_end_stream() {
            let request = Request::from_parts(parts, GuardedBody::ended());
            return ResponseFuture::called(self.inner.call(request), None);
        }
        let overrun = Arc::new(Overrun::new(self.limit));
        let watch = Watch {
            overrun: Arc::clone(&overrun),
            request: Asked::of(&parts.method, &parts.headers),
            status: self.status,
            respond: self.respond.clone(),
        };
        let body = GuardedBody::new(body, overrun);
        let request = Request::from_parts(parts, body);
        ResponseFuture::called(self.inner.call(request), Some(watch))
    }
}
