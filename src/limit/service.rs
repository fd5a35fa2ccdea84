use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, request::Parts};
use http_body::Body;
use tower_service::Service;

use super::{
    GuardedBody, OnRefusal, OverLimit, PlainText, ResponseBody, ResponseFuture,
    future::Watch,
    overrun::Overrun,
    settings::{NO_LIMIT, Settings},
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
    /// What it takes to answer in the handler's place.
    fn watch(&self, parts: &Parts, overrun: &Arc<Overrun>) -> Watch<R> {
        Watch {
            overrun: Arc::clone(overrun),
            request: self.settings.asked(parts),
            settings: Arc::clone(&self.settings),
            respond: self.respond.clone(),
        }
    }
}

impl<S, ReqB, ResB, R> Service<Request<ReqB>> for BodyGuard<S, R>
where
    S: Service<Request<GuardedBody<ReqB>>, Response = Response<ResB>>,
    ReqB: Body,
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

        // A handler that looks for it finds it with every request.
        let told = self.settings.keep_handler_response;
        let counts = !bodiless && limit.is_some();
        let overrun = (counts || told).then(|| Arc::new(Overrun::new(limit.unwrap_or(NO_LIMIT))));
        if let Some(overrun) = overrun.as_ref().filter(|_| told) {
            parts
                .extensions
                .insert(OverLimit::new(Arc::clone(overrun), limit));
        }

        let (body, watch) = match overrun {
            _ if bodiless => (GuardedBody::ended(), None),
            Some(overrun) if counts => {
                let watch = self.watch(&parts, &overrun);
                let body = GuardedBody::limited(body, overrun, self.settings.least);
                (body, Some(watch))
            }
            _ => (GuardedBody::unlimited(body), None),
        };
        let request = Request::from_parts(parts, body);
        #[cfg(feature = "axum")]
        let request = match bodiless {
            true => request,
            false => self.settings.lift_axum(request),
        };
        ResponseFuture::called(self.inner.call(request), watch)
    }
}
