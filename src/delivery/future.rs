use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::{
    DeliveredBody,
    disposition::Disposition,
    drain::{self, Purpose},
    handoff::{BodyHandoff, OnRelease, Settled},
    headers::say_close,
    policy::{BodyAction, IN_PASSING},
    unread_body::{FRAMES_PER_TURN, UnreadBody},
};
use crate::{
    budget::{Bounds, Discarding, StopReason},
    observe::{Discarded, Event},
    refusal::Refusal,
    shared::connection::ResponseHold,
};

/// How often a response may yield, without waiting, so that hyper reads body bytes that have
/// arrived already. hyper reads 8 KiB at first and then doubles, so this is about 1 MiB.
const TURNS: u8 = 8;

/// Like [`TURNS`] for a body that is not worth a drain: hyper reads once.
const TURNS_IN_PASSING: u8 = 2;

pin_project! {
    /// The future of [`Delivery`](super::Delivery)'s responses.
    pub struct ResponseFuture<F, ReqB, ResB> {
        #[pin]
        state: DeliveryState<F, ReqB, ResB>,
    }
}

pin_project! {
    #[project = DeliveryStateProj]
    enum DeliveryState<F, ReqB, ResB> {
        Called {
            #[pin]
            service: F,
            // `None` for a request without a body.
            watch: Option<UnreadWatch<ReqB>>,
        },
        // Boxed, because every future would be as large otherwise.
        Draining { drain: Option<Box<InlineDrain<ReqB, ResB>>> },
    }
}

/// The state that is needed to decide about an unread body when the response is ready.
pub(super) struct UnreadWatch<B> {
    pub(super) handoff: BodyHandoff<B, Disposition>,
    pub(super) disposition: Disposition,
}

/// The decision about a response.
enum Judged<ReqB, ResB> {
    /// The response goes out now.
    Send(Response<DeliveredBody<ResB>>),
    /// The connection may be kept: body bytes that have arrived are read first.
    Take(Box<InlineDrain<ReqB, ResB>>),
}

/// A response that is held while the request body bytes that have arrived are read, without
/// waiting.
struct InlineDrain<ReqB, ResB> {
    response: Response<ResB>,
    rest: UnreadBody<ReqB>,
    handoff: BodyHandoff<ReqB, Disposition>,
    disposition: Disposition,
    discarding: Discarding,
    /// The time at which the response was ready. All turns use it, because the drain does not wait
    /// for the client between them.
    ready: std::time::Instant,
    /// Whether the part of the body that has not arrived is drained. If not, the connection closes.
    drains: bool,
    turns: u8,
    /// Set from the first yield on.
    held: Option<ResponseHold>,
    /// The limit that was reached, if any. The connection closes then.
    over: Option<StopReason>,
}

impl<F, ReqB, ResB> ResponseFuture<F, ReqB, ResB> {
    #[inline]
    pub(super) fn new(service: F, watch: Option<UnreadWatch<ReqB>>) -> Self {
        let state = DeliveryState::Called { service, watch };
        Self { state }
    }
}

impl<F, ReqB, ResB, E> Future for ResponseFuture<F, ReqB, ResB>
where
    F: Future<Output = Result<Response<ResB>, E>>,
    ReqB: Body + Unpin + Send + 'static,
{
    type Output = Result<Response<DeliveredBody<ResB>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        if let DeliveryStateProj::Called { service, watch } = state.as_mut().project() {
            let response = ready!(service.poll(cx))?;
            return match watch.take_if(|watch| !watch.handoff.is_over()) {
                None => Poll::Ready(Ok(response.map(DeliveredBody::plain))),
                Some(watch) => state.judge(watch, response, cx).map(Ok),
            };
        }
        state.poll_rest(cx).map(Ok)
    }
}

impl<F, ReqB, ResB> DeliveryState<F, ReqB, ResB>
where
    ReqB: Body + Unpin + Send + 'static,
{
    /// Decides about the body of a response that is ready. Not inlined, because most requests have
    /// no body, or one that was read to its end.
    #[inline(never)]
    fn judge(
        mut self: Pin<&mut Self>,
        watch: UnreadWatch<ReqB>,
        response: Response<ResB>,
        cx: &mut Context<'_>,
    ) -> Poll<Response<DeliveredBody<ResB>>> {
        // Drop the service's future first, because some futures hold the body until then.
        self.set(Self::Draining { drain: None });
        match watch.judge(response) {
            Judged::Send(response) => Poll::Ready(response),
            Judged::Take(begun) => {
                let drain = Some(begun);
                self.set(Self::Draining { drain });
                self.poll_rest(cx)
            }
        }
    }

    fn poll_rest(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Response<DeliveredBody<ResB>>> {
        let DeliveryStateProj::Draining { drain } = self.project() else {
            unreachable!("`Called` has become `Draining` by now");
        };
        let begun = drain.as_mut();
        let begun = begun.expect("a future is not polled after it was ready");
        ready!(begun.poll_rest(cx));
        let taken = drain.take();
        Poll::Ready(taken.expect("it was there before").into_response())
    }
}

impl<B: Body + Unpin + Send + 'static> UnreadWatch<B> {
    fn judge<ResB>(mut self, mut response: Response<ResB>) -> Judged<B, ResB> {
        let send = |response: Response<ResB>| Judged::Send(response.map(DeliveredBody::plain));
        // After this response the bytes are not HTTP any more (RFC 9110 §7.8).
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return send(response);
        }
        let disposition = &mut self.disposition;
        let settled = self.handoff.settle(|| {
            disposition.apply_response(&response);
            OnRelease {
                disposition: disposition.clone(),
                release: Disposition::release,
            }
        });
        let Self {
            handoff,
            mut disposition,
        } = self;
        let rest = match settled {
            Settled::Over => return send(response),
            Settled::Failed => {
                if disposition.multiplexed.is_none() {
                    say_close(&mut response);
                }
                return send(response);
            }
            Settled::Held => {
                return Judged::Send(
                    response.map(|body| DeliveredBody::noted(body, handoff.progress())),
                );
            }
            Settled::Released(rest) => rest,
        };
        if rest.is_end_stream() {
            rest.finish();
            return send(response);
        }

        if disposition.multiplexed.is_some() {
            disposition.release(rest, &handoff);
            return Judged::Send(
                response.map(|body| DeliveredBody::noted(body, handoff.progress())),
            );
        }

        disposition.apply_response(&response);
        let facts = rest.facts(is_too_large(&response), disposition.persistent);
        let action = facts.action(disposition.handle().drain.budget());
        match action {
            BodyAction::Drain | BodyAction::TakeOrClose => {
                let ready = Instant::now().into_std();
                Judged::Take(Box::new(InlineDrain {
                    response,
                    rest,
                    handoff,
                    disposition,
                    discarding: Discarding::new(ready),
                    ready,
                    drains: action == BodyAction::Drain,
                    turns: 0,
                    held: None,
                    over: None,
                }))
            }
            BodyAction::Close | BodyAction::CloseUnasked => {
                say_close(&mut response);
                disposition.close(rest, &handoff, action == BodyAction::Close);
                send(response)
            }
        }
    }
}

/// Returns the limits for body bytes that hyper may have read already. There is no time limit,
/// because nothing is waited for.
fn in_passing() -> Bounds {
    Bounds::new(Duration::MAX, Duration::MAX, Some(IN_PASSING))
}

/// Returns whether the response refuses the body as too large, by `BodyGuard` or by any other
/// service.
fn is_too_large<B>(response: &Response<B>) -> bool {
    let refusal = response.extensions().get::<Refusal>();
    refusal.is_some_and(|refusal| refusal.received().is_some())
        || response.status() == StatusCode::PAYLOAD_TOO_LARGE
}

impl<ReqB, ResB> InlineDrain<ReqB, ResB>
where
    ReqB: Body + Unpin + Send + 'static,
{
    /// Completes when the body has ended, when no more bytes are there without waiting, or when a
    /// limit is reached.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (bounds, turns) = match self.drains {
            true => (self.disposition.handle().drain.to_keep(), TURNS),
            false => (in_passing(), TURNS_IN_PASSING),
        };
        let mut came = false;
        for _ in 0..FRAMES_PER_TURN {
            if self.rest.is_end_stream() {
                return Poll::Ready(());
            }
            match self.rest.poll_frame(cx) {
                Poll::Ready(Some(Ok(bytes))) => {
                    came = true;
                    self.over = self.discarding.received(bytes, self.ready, &bounds);
                    if self.over.is_some() {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        // hyper drops a connection whose client closes its side before the response is ready. An
        // end that TLS has read already cannot be kept from hyper, so the response goes out now.
        if self.rest.has_ended_within_tls() {
            return Poll::Ready(());
        }
        // hyper reads only when this future yields. The first yield makes hyper begin to read. The
        // others follow as long as bytes come.
        if self.turns < turns && (came || self.turns == 0) {
            self.turns += 1;
            self.held = self.held.take().or_else(|| self.rest.hold_response());
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn into_response(self) -> Response<DeliveredBody<ResB>> {
        let Self {
            mut response,
            rest,
            handoff,
            disposition,
            discarding,
            drains,
            held,
            over,
            ..
        } = self;
        drop(held);
        let drained = |end| {
            if discarding.discarded() > 0 {
                let peer = disposition.peer().addr();
                let observer = &disposition.handle().observer;
                observer.observe_with(|| Event::Drained(Discarded::new(&discarding, end, peer)));
            }
        };
        if let Some(end) = rest.ended() {
            if end == StopReason::Reset {
                say_close(&mut response);
            }
            rest.finish();
            drained(end);
            return response.map(DeliveredBody::plain);
        }
        if over.is_none() && !drains && !rest.is_combined() {
            say_close(&mut response);
            drain::go_on(
                rest,
                disposition.handle(),
                Purpose::Deliver,
                discarding,
                handoff.progress(),
                disposition.peer(),
            );
            return response.map(DeliveredBody::plain);
        }
        if over.is_some() || !drains {
            // The socket wrapper takes over, or a drain if there is no wrapper.
            drained(over.unwrap_or(StopReason::Completed));
            say_close(&mut response);
            disposition.close(rest, &handoff, true);
            return response.map(DeliveredBody::plain);
        }
        let noted = response.map(|body| DeliveredBody::noted(body, handoff.progress()));
        drain::go_on(
            rest,
            disposition.handle(),
            Purpose::Keep,
            discarding,
            handoff.progress(),
            disposition.peer(),
        );
        noted
    }
}

impl<F, ReqB, ResB> fmt::Debug for ResponseFuture<F, ReqB, ResB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
