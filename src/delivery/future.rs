use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Response, StatusCode, header::CONNECTION};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::{
    DeliveredBody, drain,
    exchange::{Exchange, FRAMES_PER_TURN, Later, Remainder, Settled},
    plan::Plan,
    service::has_token,
    verdict::Verdict,
};
use crate::{
    bounds::{Discarding, Ended},
    event::{Discarded, Event},
    limit::{Kind, Refusal},
};

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
    pub(super) plan: Plan,
}

/// What is to be done with an answer.
enum Judged<ReqB, ResB> {
    /// Nothing waits.
    Send(Response<DeliveredBody<ResB>>),
    /// The connection is to be kept.
    Take(Taking<ReqB, ResB>),
}

/// An answer on a connection to keep, while the rest of the body is taken in
/// passing.
struct Taking<ReqB, ResB> {
    response: Response<ResB>,
    rest: Remainder<ReqB>,
    exchange: Exchange<ReqB>,
    plan: Plan,
    discarding: Discarding,
    turns: u8,
    /// More came than the connection is worth.
    over: bool,
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
    type Output = Result<Response<DeliveredBody<ResB>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(service) = this.service.as_mut().as_pin_mut() {
            let response = ready!(service.poll(cx))?;
            this.service.set(None);
            let Some(watch) = this.watch.take() else {
                return Poll::Ready(Ok(response.map(DeliveredBody::plain)));
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
        let taken = taken.expect("it was there before");
        Poll::Ready(Ok(taken.into_response()))
    }
}

impl<B: Body + Unpin + Send + 'static> Watch<B> {
    fn judge<ResB>(mut self, mut response: Response<ResB>) -> Judged<B, ResB> {
        let send = |response: Response<ResB>| Judged::Send(response.map(DeliveredBody::plain));
        // From here on these are not bytes of HTTP (RFC 9110 §7.8).
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return send(response);
        }
        self.plan.persistent &=
            !has_token(response.headers(), &CONNECTION, "close") && !is_too_slow(&response);
        let Self { exchange, plan } = self;
        let later = Later {
            plan: plan.clone(),
            let_go: Plan::let_go,
        };
        let rest = match exchange.settle(later) {
            Settled::Over => return send(response),
            Settled::Held => {
                return Judged::Send(
                    response.map(|body| DeliveredBody::noted(body, exchange.note())),
                );
            }
            Settled::LetGo(rest) => rest,
        };
        if rest.is_end_stream() {
            rest.finish();
            return send(response);
        }

        if plan.multiplexed {
            plan.let_go(rest, &exchange);
            return Judged::Send(response.map(|body| DeliveredBody::noted(body, exchange.note())));
        }

        let facts = rest.facts(is_too_large(&response), plan.persistent);
        let asked = match facts.verdict(plan.shared.drain.budget()) {
            Verdict::Drain => {
                return Judged::Take(Taking {
                    response,
                    rest,
                    exchange,
                    plan,
                    discarding: Discarding::new(Instant::now().into_std()),
                    turns: 0,
                    over: false,
                });
            }
            Verdict::Close => true,
            Verdict::CloseUnasked => false,
        };
        say_close(&mut response);
        plan.close(rest, &exchange, asked);
        send(response)
    }
}

/// Beside what else the answer says of its connection.
fn say_close<B>(response: &mut Response<B>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().append(CONNECTION, close);
}

/// A body that was refused for its length, by a guard of ours or by any other.
fn is_too_large<B>(response: &Response<B>) -> bool {
    let refusal = response.extensions().get::<Refusal>();
    refusal.is_some_and(|refusal| refusal.received().is_some())
        || response.status() == StatusCode::PAYLOAD_TOO_LARGE
}

/// A client that is too slow to wait for is so for a drain, too (RFC 9110 §15.5.9).
fn is_too_slow<B>(response: &Response<B>) -> bool {
    let refusal = response.extensions().get::<Refusal>();
    refusal.is_some_and(|refusal| matches!(refusal.kind(), Kind::TooSlow { .. }))
}

impl<ReqB, ResB> Taking<ReqB, ResB>
where
    ReqB: Body + Unpin + Send + 'static,
{
    /// Ready when the rest has been taken, nothing more is there at once, or more was
    /// there than is to be read.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let bounds = self.plan.shared.drain.to_keep();
        let now = Instant::now().into_std();
        let mut came = false;
        for _ in 0..FRAMES_PER_TURN {
            if self.rest.is_end_stream() {
                return Poll::Ready(());
            }
            match self.rest.poll_frame(cx) {
                Poll::Ready(Some(Ok(bytes))) => {
                    came = true;
                    if self.discarding.received(bytes, now, &bounds).is_some() {
                        self.over = true;
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        // hyper has to have its turn to read. The first step back is to have it
        // begin, the others follow as long as something comes.
        if self.turns < TURNS && (came || self.turns == 0) {
            self.turns += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn into_response(self) -> Response<DeliveredBody<ResB>> {
        let Self {
            mut response,
            rest,
            exchange,
            plan,
            discarding,
            ..
        } = self;
        if rest.is_end_stream() {
            rest.finish();
            if discarding.discarded() > 0 {
                let drained = Discarded::new(&discarding, Ended::Complete);
                plan.shared.observer.observe(&Event::Drained(drained));
            }
            return response.map(DeliveredBody::plain);
        }
        if self.over {
            let drained = Discarded::new(&discarding, Ended::Bytes);
            plan.shared.observer.observe(&Event::Drained(drained));
            say_close(&mut response);
            plan.close(rest, &exchange, true);
            return response.map(DeliveredBody::plain);
        }
        let noted = response.map(|body| DeliveredBody::noted(body, exchange.note()));
        drain::go_on(rest, &plan.shared, discarding, exchange);
        noted
    }
}

impl<F, ReqB, ResB> fmt::Debug for ResponseFuture<F, ReqB, ResB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
