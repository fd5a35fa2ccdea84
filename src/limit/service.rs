use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, request::Parts};
use http_body::Body;
use tower_service::Service;

use super::{
    GuardedBody, OnRefusal, OverLimit, PlainText, ResponseBody, ResponseFuture, future::Watch,
    overrun::Overrun, settings::Settings,
};
use crate::BoxError;

/// The service that [`BodyGuardLayer`](super::BodyGuardLayer) makes.
#[derive(Clone, Debug)]
pub struct BodyGuard<S, R = PlainText> {
    inner: S,
    settings: Arc<Settings>,
    respond: R,
}

impl<S, R> BodyGuard<S, R> {
    pub(super) fn new(inner: S, settings: Arc<Settings>, respond: R) -> Self {
        Self {
            inner,
            settings,
            respond,
        }
    }
}

impl<S, R: Clone> BodyGuard<S, R> {
    /// Counts what the service reads of a body, up to the limit.
    fn watch<B: Body>(&self, parts: &mut Parts, body: B, limit: u64) -> (GuardedBody<B>, Watch<R>) {
        let overrun = Arc::new(Overrun::new(limit));
        if self.settings.keep_handler_response {
            let over = OverLimit::new(Arc::clone(&overrun));
            parts.extensions.insert(over);
        }
        let watch = Watch {
            overrun: Arc::clone(&overrun),
            request: self.settings.asked(parts),
            settings: Arc::clone(&self.settings),
            respond: self.respond.clone(),
        };
        (GuardedBody::limited(body, overrun), watch)
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
        let (mut parts, body) = request.into_parts();
        let bodiless = body.is_end_stream();
        let bounded = body.size_hint().exact().is_some();
        let limit = match self.settings.decide(&parts, bodiless, bounded) {
            Ok(limit) => limit,
            Err(refusal) => return ResponseFuture::refused(refusal, self.respond.clone()),
        };

        if bodiless {
            let request = Request::from_parts(parts, GuardedBody::ended());
            return ResponseFuture::called(self.inner.call(request), None);
        }
        let (body, watch) = match limit {
            Some(limit) => {
                let (body, watch) = self.watch(&mut parts, body, limit);
                (body, Some(watch))
            }
            None => (GuardedBody::unlimited(body), None),
        };
        let request = Request::from_parts(parts, body);
        #[cfg(feature = "axum")]
        let request = self.settings.lift_axum(request);
        ResponseFuture::called(self.inner.call(request), watch)
    }
}
