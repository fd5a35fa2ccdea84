use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, Version, request::Parts};
use http_body::{Body, SizeHint};
use tower_service::Service;

use super::{
    BodyLimitStatus, GuardedBody, PlainText, RefusalResponse, ResponseBody, ResponseFuture,
    body_budget::Reservation,
    future::ResponseContext,
    request_body::Timed,
    settings::{Decision, NO_LIMIT, Settings},
    upload::Upload,
};
use crate::{BoxError, refusal::RequestContext};

/// The service that [`BodyGuardLayer`](crate::BodyGuardLayer) makes.
#[derive(Clone, Debug)]
pub struct BodyGuard<S, R = PlainText> {
    inner: S,
    settings: Arc<Settings>,
    respond: R,
}

impl<S, R> BodyGuard<S, R> {
    pub(super) fn from_settings(inner: S, settings: Arc<Settings>, respond: R) -> Self {
        Self {
            inner,
            settings,
            respond,
        }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service, without the limit.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

#[cfg(feature = "axum")]
impl<S, R> BodyGuard<S, R> {
    /// Wraps another service with the same settings.
    pub(crate) fn around<T>(&self, inner: T) -> BodyGuard<T, R>
    where
        R: Clone,
    {
        self.around_with(inner, R::clone)
    }

    /// Wraps another service with the same settings and another type of refusal response.
    pub(crate) fn around_with<T, O>(
        &self,
        inner: T,
        convert: impl FnOnce(&R) -> O,
    ) -> BodyGuard<T, O> {
        BodyGuard::from_settings(inner, Arc::clone(&self.settings), convert(&self.respond))
    }

    /// Copies the settings for one connection. Each request counts a reference to them, and the
    /// connections of two cores would contend for the count.
    pub(crate) fn for_connection(mut self) -> Self {
        self.settings = Arc::new(Settings::clone(&self.settings));
        self
    }
}

impl<S, R> BodyGuard<S, R> {
    /// Returns the limit of a request that passes by its headers alone, as most do. This is cheap,
    /// because it does not split the request into its parts.
    #[inline]
    pub(crate) fn passes<B>(&self, request: &Request<B>, promised: &SizeHint) -> Option<u64> {
        self.settings.passes(request.headers(), promised)
    }

    /// Returns the limit if the length of an [`Incoming`](hyper::body::Incoming) is within it.
    /// Does not check `Content-Length`: over HTTP/1, hyper has.
    #[cfg(feature = "axum")]
    #[inline]
    pub(crate) fn passes_by_body(&self, promised: &SizeHint) -> Option<u64> {
        self.settings.passes_by_body(promised)
    }
}

/// Returns what a body promises about its length.
#[inline]
pub(crate) fn promised<B: Body>(body: &B) -> SizeHint {
    match body.is_end_stream() {
        true => SizeHint::with_exact(0),
        false => body.size_hint(),
    }
}

impl<S, R: Clone> BodyGuard<S, R> {
    /// Returns the state for a refusal that replaces the handler's response. It captures the
    /// head only if the body may be refused later.
    fn watch(
        &self,
        head: &Parts,
        limit: u64,
        may_be_refused: bool,
        reservation: Option<Reservation>,
    ) -> ResponseContext<R> {
        let request = match may_be_refused {
            true => self.settings.request_context(head),
            false => RequestContext::default(),
        };
        let settings = Arc::clone(&self.settings);
        ResponseContext {
            upload: Arc::new(Upload::new(limit, request, settings, reservation)),
            respond: self.respond.clone(),
        }
    }

    /// Checks the whole head, then refuses the request or calls the service. `convert` makes the
    /// request that the service takes.
    #[inline(never)]
    pub(crate) fn inspect<ReqB, B>(
        &mut self,
        request: Request<ReqB>,
        promised: &SizeHint,
        convert: impl FnOnce(Parts, GuardedBody<ReqB>) -> Request<B>,
    ) -> ResponseFuture<S::Future, R>
    where
        S: Service<Request<B>>,
    {
        let (mut parts, body) = request.into_parts();
        let Decision { max, limit, client } = match self.settings.decide(&parts, promised) {
            Ok(decision) => decision,
            Err(refusal) => return ResponseFuture::refused(refusal, self.respond.clone()),
        };
        let most = limit.unwrap_or(NO_LIMIT);
        let reserved = client.map(|client| self.settings.reserve(client, &parts, promised, limit));
        let reservation = match reserved.transpose() {
            Ok(reservation) => reservation,
            Err(refusal) => return ResponseFuture::refused(refusal, self.respond.clone()),
        };
        let waits = reservation.as_ref().is_some_and(Reservation::waits);
        let wait_timeout = client
            .filter(|_| waits)
            .and_then(|client| client.budget().wait_timeout());
        let may_be_refused = reservation.is_some() || self.settings.may_be_refused(limit, promised);
        let counts = may_be_refused || self.settings.may_meet_smaller(promised);
        let keeps_response = self.settings.keep_handler_response;
        let watch = (counts || keeps_response)
            .then(|| self.watch(&parts, most, may_be_refused, reservation));
        // Every request has the extension, so that a handler can always extract it.
        if let Some(watch) = watch.as_ref().filter(|_| keeps_response) {
            let over_limit = BodyLimitStatus::new(Arc::clone(&watch.upload), limit);
            parts.extensions.insert(over_limit);
        }

        let watch = watch.filter(|_| counts);
        let body = match &watch {
            Some(ResponseContext { upload, .. }) => {
                let pace = self.settings.pace;
                let pace = (pace.is_limited() && max.is_some()).then_some(pace);
                let timed = Timed::new(pace, parts.version > Version::HTTP_11, wait_timeout);
                // With a budget, a body without a limit may be longer than `most` once its room
                // is no longer counted.
                let max = max.map_or(NO_LIMIT, |_| most);
                GuardedBody::counted(body, max, Arc::clone(upload), timed)
            }
            None => GuardedBody::bounded(body, most),
        };
        let announcement = self.settings.announcement(&parts.method, limit);
        let request = convert(parts, body);
        let holding = watch.as_ref().and_then(|watch| watch.upload.hold_room());
        let future = self.inner.call(request);
        drop(holding);
        match announcement {
            None => ResponseFuture::called(future, watch),
            Some(limit) => ResponseFuture::announcing(future, watch, limit),
        }
    }
}

impl<S, ReqB, ResB, R> Service<Request<ReqB>> for BodyGuard<S, R>
where
    S: Service<Request<GuardedBody<ReqB>>, Response = Response<ResB>>,
    ReqB: Body,
    ReqB::Error: Into<BoxError>,
    ResB: Body,
    R: RefusalResponse<ResB> + Clone,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let promised = promised(request.body());
        match self.passes(&request, &promised) {
            Some(limit) => {
                let request = request.map(|body| GuardedBody::bounded(body, limit));
                ResponseFuture::called(self.inner.call(request), None)
            }
            None => self.inspect(request, &promised, Request::from_parts),
        }
    }
}
