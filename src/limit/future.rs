use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, RETRY_AFTER},
};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{
    RefusalResponse, ResponseBody, grpc,
    headers::{UPLOAD_LIMIT, upload_limit},
    in_progress::InProgress,
    upload::Upload,
};
use crate::refusal::Refusal;

pin_project! {
    /// The response future of [`BodyGuard`](super::BodyGuard).
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
        // The head was refused, and the service was not called. Boxed, because otherwise every
        // future would be as large as a refusal.
        Refused { refusal: Option<Box<Refusal>>, respond: R },
        Called {
            #[pin]
            future: F,
            // `None` if the body cannot go over the limit.
            watch: Option<ResponseContext<R>>,
        },
        // The same for an OPTIONS request, whose response announces the limit. Boxed, because few
        // requests need it.
        Announcing {
            #[pin]
            future: F,
            watch: Option<ResponseContext<R>>,
            limit: Option<Box<HeaderValue>>,
        },
    }
}

/// The state that replaces the service's response with a refusal.
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

    pub(super) fn announcing(
        future: F,
        watch: Option<ResponseContext<R>>,
        limit: HeaderValue,
    ) -> Self {
        let limit = Some(Box::new(limit));
        let state = GuardState::Announcing {
            future,
            watch,
            limit,
        };
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
            GuardStateProj::Called { future, watch } => poll_called(future, watch, cx),
            GuardStateProj::Announcing {
                future,
                watch,
                limit,
            } => {
                let mut result = ready!(poll_called(future, watch, cx));
                if let (Ok(response), Some(limit)) = (&mut result, limit.take()) {
                    response.headers_mut().entry(UPLOAD_LIMIT).or_insert(*limit);
                }
                Poll::Ready(result)
            }
        }
    }
}

#[inline]
fn poll_called<F, B, E, R>(
    future: Pin<&mut F>,
    watch: &mut Option<ResponseContext<R>>,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<ResponseBody<B>>, E>>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
    R: RefusalResponse<B>,
{
    // The service finishes even if the body is over the limit, because it may have to clean up.
    let holding = watch.as_ref().and_then(|watch| watch.upload.hold_room());
    let result = ready!(future.poll(cx));
    drop(holding);
    let Some(watch) = watch else {
        return Poll::Ready(result.map(|response| response.map(ResponseBody::of_service)));
    };
    Poll::Ready(watch.finish(result))
}

impl<R> Drop for ResponseContext<R> {
    fn drop(&mut self) {
        self.upload.end_reservation();
    }
}

impl<R> ResponseContext<R> {
    fn finish<B, E>(
        &mut self,
        result: Result<Response<B>, E>,
    ) -> Result<Response<ResponseBody<B>>, E>
    where
        B: Body,
        R: RefusalResponse<B>,
    {
        self.upload.end_reservation();
        // If this is the only handle, the request body has ended or was dropped, and can no
        // longer go over the limit. Check this before reading the count: in between, another
        // thread may receive bytes over the limit.
        let settled = Arc::get_mut(&mut self.upload).is_some();
        let keeps_response = self.upload.settings.keep_handler_response;
        if let Some(refusal) = self.upload.refusal() {
            if !keeps_response || refusal.received().is_none() {
                return Ok(refuse(refusal, &self.respond));
            }
            return result.map(|mut response| {
                response.extensions_mut().insert(refusal);
                response.map(ResponseBody::of_service)
            });
        }
        result.map(|response| {
            let settings = &self.upload.settings;
            let limit = self.upload.signal.limit();
            // A service that has read the whole body has another reason for a 413.
            if !self.upload.has_ended() {
                settings.meet_response(response.status(), response.extensions(), limit);
            }
            if settled || keeps_response {
                return response.map(ResponseBody::of_service);
            }
            let in_progress = InProgress::new(Arc::clone(&self.upload), response.headers());
            response.map(|body| ResponseBody::unless_over_limit(body, in_progress))
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
    // The response of a closure that sets no status.
    if response.status() == StatusCode::OK && refusal.call().is_none() {
        *response.status_mut() = refusal.status();
    }
    let headers = response.headers_mut();
    if let Some(retry_after) = refusal.retry_after() {
        let retry_after = HeaderValue::from(retry_after.as_secs());
        headers.entry(RETRY_AFTER).or_insert(retry_after);
    }
    if let Some(limit) = refusal
        .announced_limit()
        .filter(|_| refusal.call().is_none())
    {
        headers
            .entry(UPLOAD_LIMIT)
            .or_insert_with(|| upload_limit(Some(limit)));
    }
    if refusal.by_head() {
        response = without_body(response);
    }
    response.extensions_mut().insert(refusal);
    response
}

/// Removes the body from the response to a HEAD request, and keeps its length in the head
/// (RFC 9110 §9.3.2). hyper removes the body by itself on HTTP/1 only.
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
