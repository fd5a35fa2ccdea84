use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{
    HeaderValue, Response,
    header::{CONTENT_LENGTH, RETRY_AFTER},
};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{RefusalResponse, ResponseBody, grpc, under_way::UnderWay, upload::Upload};
use crate::refusal::{Refusal, RefusalKind};

pin_project! {
    /// The future of [`BodyGuard`](super::BodyGuard)'s responses.
    #[derive(Debug)]
    pub struct ResponseFuture<F, R> {
        #[pin]
        state: GuardState<F, R>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = GuardStateProj]
    enum GuardState<F, R> {
        // Decided by the head; the service was not called. Boxed, for else every future
        // would be as large.
        Refused { refusal: Option<Box<Refusal>>, respond: R },
        Called {
            #[pin]
            future: F,
            // `None` where no body can go past the limit.
            watch: Option<ResponseContext<R>>,
        },
    }
}

/// What it takes to put a refusal in the place of the service's answer.
#[derive(Debug)]
pub(super) struct ResponseContext<R> {
    pub(super) upload: Arc<Upload>,
    pub(super) respond: R,
}

impl<F, R> ResponseFuture<F, R> {
    pub(super) fn refused(refusal: Box<Refusal>, respond: R) -> Self {
        let refusal = Some(refusal);
        let state = GuardState::Refused { refusal, respond };
        Self { state }
    }

    #[inline]
    pub(super) fn called(future: F, watch: Option<ResponseContext<R>>) -> Self {
        let state = GuardState::Called { future, watch };
        Self { state }
    }
}

impl<F, B, E, R> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
    R: RefusalResponse<B>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            GuardStateProj::Refused { refusal, respond } => {
                let refusal = refusal.take();
                let refusal = refusal.expect("a future is not polled after it was ready");
                Poll::Ready(Ok(refuse(*refusal, respond)))
            }
            GuardStateProj::Called { future, watch } => {
                // Over the limit, too, the service is left to finish: it may
                // have to clean up.
                let answer = ready!(future.poll(cx));
                let Some(watch) = watch else {
                    return Poll::Ready(
                        answer.map(|response| response.map(ResponseBody::of_service)),
                    );
                };
                Poll::Ready(watch.judge(answer))
            }
        }
    }
}

impl<R> Drop for ResponseContext<R> {
    fn drop(&mut self) {
        self.upload.end_reservation();
    }
}

impl<R> ResponseContext<R> {
    fn judge<B, E>(
        &mut self,
        answer: Result<Response<B>, E>,
    ) -> Result<Response<ResponseBody<B>>, E>
    where
        B: Body,
        R: RefusalResponse<B>,
    {
        self.upload.end_reservation();
        // Ours is the only handle: the request body has ended or is gone, and
        // nothing can go over any more. Asked before the count is read, for in
        // between the body may go over on another thread.
        let settled = Arc::get_mut(&mut self.upload).is_some();
        let keeps = self.upload.settings.keep_handler_response;
        if let Some(refusal) = self.upload.refusal() {
            if !keeps {
                return Ok(refuse(refusal, &self.respond));
            }
            return answer.map(|mut response| {
                response.extensions_mut().insert(refusal);
                response.map(ResponseBody::of_service)
            });
        }
        answer.map(|response| {
            let settings = &self.upload.settings;
            let limit = self.upload.signal.limit();
            settings.meet_response(response.status(), response.extensions(), limit);
            if settled || keeps {
                return response.map(ResponseBody::of_service);
            }
            let under_way = UnderWay::new(Arc::clone(&self.upload), response.headers());
            response.map(|body| ResponseBody::unless_over_limit(body, under_way))
        })
    }
}

fn refuse<B, R>(refusal: Refusal, respond: &R) -> Response<ResponseBody<B>>
where
    B: Body,
    R: RefusalResponse<B>,
{
    let mut response = match refusal.call() {
        Some(call) => grpc::refuse(call, &refusal).map(ResponseBody::from),
        None => respond.respond(&refusal),
    };
    if let RefusalKind::OverBudget { retry_after } = refusal.kind() {
        let retry_after = HeaderValue::from(retry_after.as_secs());
        response
            .headers_mut()
            .entry(RETRY_AFTER)
            .or_insert(retry_after);
    }
    if refusal.by_head() {
        response = without_body(response);
    }
    response.extensions_mut().insert(refusal);
    response
}

/// The answer to a HEAD request: its length stays in the head (RFC 9110 §9.3.2).
/// hyper leaves the body out by itself on HTTP/1 only.
fn without_body<B: Body>(response: Response<ResponseBody<B>>) -> Response<ResponseBody<B>> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.hint().exact() {
        parts
            .headers
            .entry(CONTENT_LENGTH)
            .or_insert_with(|| HeaderValue::from(length));
    }
    Response::from_parts(parts, ResponseBody::default())
}
