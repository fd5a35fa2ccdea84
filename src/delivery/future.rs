use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Response, StatusCode, header::CONNECTION};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{
    Drain, drain,
    exchange::{Exchange, Later, Remainder},
    service::has_token,
    verdict::Verdict,
};
use crate::limit::{Kind, Refusal};

/// How often an answer may step back, without waiting, for what has arrived
/// already. hyper reads 8 KiB at first and doubles, so that this is about 1 MiB.
const TURNS: u8 = 8;

pin_project! {
    /// The future of [`Delivery`](super::Delivery)'s responses.
    pub struct ResponseFuture<F, ReqB, ResB> {
        // Dropped once it is ready: some futures keep the body until then.
        #[pin]
        service: Option<F>,
        watch: Option<Watch<ReqB>>,
        taking: Option<Taking<ReqB, ResB>>,
    }
}

/// What it takes to judge a body when the answer is there.
pub(super) struct Watch<B> {
    pub(super) exchange: Exchange<B>,
    pub(super) drain: Drain,
    pub(super) persistent: bool,
}

/// What is to be done with an answer.
enum Judged<ReqB, ResB> {
    /// Nothing waits.
    Send(Response<ResB>),
    /// The connection is to be kept.
    Take(Taking<ReqB, ResB>),
}

/// An answer on a connection to keep, while the rest of the body is taken in
/// passing.
struct Taking<ReqB, ResB> {
    response: Response<ResB>,
    rest: Remainder<ReqB>,
    drain: Drain,
    turns: u8,
}

impl<F, ReqB, ResB> ResponseFuture<F, ReqB, ResB> {
    pub(super) fn untracked(service: F) -> Self {
        Self {
            service: Some(service),
            watch: None,
            taking: None,
        }
    }

    pub(super) fn tracked(service: F, watch: Watch<ReqB>) -> Self {
        Self {
            service: Some(service),
            watch: Some(watch),
            taking: None,
        }
    }
}

impl<F, ReqB, ResB, E> Future for ResponseFuture<F, ReqB, ResB>
where
    F: Future<Output = Result<Response<ResB>, E>>,
    ReqB: Body + Unpin + Send + 'static,
{
    type Output = Result<Response<ResB>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(service) = this.service.as_mut().as_pin_mut() {
            let response = ready!(service.poll(cx))?;
            this.service.set(None);
            let Some(watch) = this.watch.take() else {
                return Poll::Ready(Ok(response));
            };
            match watch.judge(response) {
                Judged::Send(response) => return Poll::Ready(Ok(response)),
                Judged::Take(taking) => *this.taking = Some(taking),
            }
        }
        let taking = this.taking.as_mut();
        let taking = taking.expect("a future is not polled after it was ready");
        ready!(taking.poll_rest(cx));
        let taken = this.taking.take();
        Poll::Ready(Ok(taken.expect("it was there before").into_response()))
    }
}

impl<B: Body + Unpin + Send + 'static> Watch<B> {
    fn judge<ResB>(self, mut response: Response<ResB>) -> Judged<B, ResB> {
        // From here on these are not bytes of HTTP (RFC 9110 §7.8).
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Judged::Send(response);
        }
        let persistent = self.persistent && !has_token(response.headers(), &CONNECTION, "close");
        let drain = self.drain;
        let later = Later {
            persistent,
            drain,
            let_go: |rest, later| let_go(rest, false, later.persistent, later.drain),
        };
        let Some(rest) = self.exchange.settle(later) else {
            return Judged::Send(response);
        };
        if rest.is_end_stream() {
            rest.finish();
            return Judged::Send(response);
        }

        let too_large = is_too_large(&response);
        if rest.facts(too_large, persistent).verdict(drain.budget()) == Verdict::Drain {
            return Judged::Take(Taking {
                response,
                rest,
                drain,
                turns: 0,
            });
        }
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
        let_go(rest, too_large, persistent, drain);
        Judged::Send(response)
    }
}

/// Deals with a rest once the answer's head cannot be changed any more.
fn let_go<B>(rest: Remainder<B>, too_large: bool, persistent: bool, drain: Drain)
where
    B: Body + Unpin + Send + 'static,
{
    if rest.is_end_stream() {
        return rest.finish();
    }
    match rest.facts(too_large, persistent).verdict(drain.budget()) {
        Verdict::Drain => drain::spawn(rest, drain.to_keep()),
        // Without a hook, reading on is what delivers the answer.
        Verdict::Close if !rest.is_joined() => drain::spawn(rest, drain.to_deliver()),
        Verdict::Close | Verdict::CloseUnasked => rest.give_up(),
    }
}

/// A body that was refused for its length, by a guard of ours or by any other.
fn is_too_large<B>(response: &Response<B>) -> bool {
    let refusal = response.extensions().get::<Refusal>();
    let streamed = refusal.is_some_and(|refusal| matches!(refusal.kind(), Kind::Streamed { .. }));
    streamed || response.status() == StatusCode::PAYLOAD_TOO_LARGE
}

impl<ReqB, ResB> Taking<ReqB, ResB>
where
    ReqB: Body + Unpin + Send + 'static,
{
    /// Ready when the rest has been taken, or nothing more is there at once.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut came = false;
        while !self.rest.is_end_stream() {
            match self.rest.poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) => came = true,
                Poll::Ready(None | Some(Err(_))) => {}
                // hyper has to have its turn to read. The first step back is to
                // have it begin, the others follow as long as something comes.
                Poll::Pending if self.turns < TURNS && (came || self.turns == 0) => {
                    self.turns += 1;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => break,
            }
        }
        Poll::Ready(())
    }

    fn into_response(self) -> Response<ResB> {
        if self.rest.is_end_stream() {
            self.rest.finish();
        } else {
            drain::spawn(self.rest, self.drain.to_keep());
        }
        self.response
    }
}

impl<F, ReqB, ResB> fmt::Debug for ResponseFuture<F, ReqB, ResB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
