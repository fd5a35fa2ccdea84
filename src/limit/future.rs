use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Response, header::CONTENT_LENGTH};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{
    OnRefusal, Refusal, ResponseBody, overrun::Overrun, refusal::Asked, settings::Settings,
    under_way::UnderWay,
};

pin_project! {
    /// The future of [`BodyGuard`](super::BodyGuard)'s responses.
    #[derive(Debug)]
    pub struct ResponseFuture<F, R> {
        #[pin]
        state: State<F, R>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProj]
    enum State<F, R> {
        // Decided by the head; the service was not called.
        Refused { refusal: Refusal, respond: R },
        Called {
            #[pin]
            future: F,
            // `None` for a request without a body.
            watch: Option<Watch<R>>,
        },
    }
}

/// What it takes to put a refusal in the place of the service's answer.
#[derive(Debug)]
pub(super) struct Watch<R> {
    pub(super) overrun: Arc<Overrun>,
    pub(super) request: Asked,
    pub(super) settings: Arc<Settings>,
    pub(super) respond: R,
}

impl<F, R> ResponseFuture<F, R> {
    pub(super) fn refused(refusal: Refusal, respond: R) -> Self {
        let state = State::Refused { refusal, respond };
        Self { state }
    }

    pub(super) fn called(future: F, watch: Option<Watch<R>>) -> Self {
        let state = State::Called { future, watch };
        Self { state }
    }
}

impl<F, B, E, R> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
    R: OnRefusal<B>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Refused { refusal, respond } => {
                Poll::Ready(Ok(refuse(refusal.clone(), respond)))
            }
            StateProj::Called { future, watch } => {
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

impl<R> Watch<R> {
    fn judge<B, E>(
        &mut self,
        answer: Result<Response<B>, E>,
    ) -> Result<Response<ResponseBody<B>>, E>
    where
        B: Body,
        R: OnRefusal<B>,
    {
        // Ours is the only handle: the request body has ended or is gone, and
        // nothing can go over any more. Asked before the count is read, for in
        // between the body may go over on another thread.
        let settled = Arc::get_mut(&mut self.overrun).is_some();
        let keeps = self.settings.keep_handler_response;
        if let Some(kind) = self.overrun.kind() {
            let request = std::mem::take(&mut self.request);
            let refusal = self.settings.streamed(kind, self.overrun.limit(), request);
            self.settings.observe(&refusal);
            if !keeps {
                return Ok(refuse(refusal, &self.respond));
            }
            return answer.map(|mut response| {
                response.extensions_mut().insert(refusal);
                response.map(ResponseBody::of_service)
            });
        }
        answer.map(|response| {
            if settled || keeps {
                return response.map(ResponseBody::of_service);
            }
            let overrun = Arc::clone(&self.overrun);
            let settings = Arc::clone(&self.settings);
            let request = std::mem::take(&mut self.request);
            let under_way = UnderWay::new(overrun, settings, request, response.headers());
            response.map(|body| ResponseBody::unless_overrun(body, under_way))
        })
    }
}

fn refuse<B, R>(refusal: Refusal, respond: &R) -> Response<ResponseBody<B>>
where
    B: Body,
    R: OnRefusal<B>,
{
    let mut response = match refusal.call() {
        Some(call) => call.refuse(&refusal),
        None => respond.respond(&refusal),
    };
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
