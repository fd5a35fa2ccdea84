//! The body on its way through the service, and back.

use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::{plan::Plan, unread::Unread, verdict::Facts};
use crate::{
    budget::{Bounds, Discarding, Ended},
    shared::connection::{Connection, Held},
};

/// A request body that comes back to [`Delivery`](super::Delivery) when it is
/// dropped before its end.
///
/// It yields what the inner body yields. After an error, or the end, the inner
/// body is let go of, and there are no more frames.
pub struct TrackedBody<B>(Inner<B>);

enum Inner<B> {
    /// Nothing to follow: a request without a body.
    Untracked(B),
    Tracked(Tracked<B>),
}

struct Tracked<B> {
    /// `None` after the end.
    rest: Option<Remainder<B>>,
    exchange: Exchange<B>,
    /// HTTP/2, on a combined connection.
    unread: Option<Unread>,
}

impl<B> TrackedBody<B> {
    pub(super) fn untracked(body: B) -> Self {
        Self(Inner::Untracked(body))
    }

    pub(super) fn tracked(
        rest: Remainder<B>,
        exchange: Exchange<B>,
        unread: Option<Unread>,
    ) -> Self {
        Self(Inner::Tracked(Tracked {
            rest: Some(rest),
            exchange,
            unread,
        }))
    }

    /// Apart, for the frames before the last one have nothing to do with it.
    #[inline(never)]
    fn end(&mut self, progress: Progress) {
        let Inner::Tracked(Tracked {
            rest,
            exchange,
            unread,
        }) = &mut self.0
        else {
            return;
        };
        *unread = None;
        if let Some(mut rest) = rest.take() {
            rest.progress = progress;
            if progress == Progress::Failed {
                exchange.fail();
            }
            rest.finish();
        }
    }

    /// The body itself, where nothing follows it; itself, where something does.
    #[cfg(feature = "axum")]
    pub(crate) fn into_untracked(self) -> Result<B, Self> {
        match self.0 {
            Inner::Untracked(body) => Ok(body),
            tracked @ Inner::Tracked(_) => Err(Self(tracked)),
        }
    }
}

impl<B: Body + Unpin> Body for TrackedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let body = match &mut self.0 {
            Inner::Untracked(body) => body,
            Inner::Tracked(Tracked { rest, .. }) => match rest {
                Some(rest) => {
                    rest.touched = true;
                    &mut rest.body
                }
                None => return Poll::Ready(None),
            },
        };
        let polled = Pin::new(body).poll_frame(cx);
        if let Inner::Tracked(Tracked {
            unread: Some(unread),
            ..
        }) = &mut self.0
        {
            unread.polled(polled.is_pending());
        }
        match &polled {
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
            Poll::Ready(Some(Err(_))) => self.end(Progress::Failed),
            Poll::Ready(None) => self.end(Progress::Ended),
        }
        polled
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Untracked(body) => body.is_end_stream(),
            Inner::Tracked(Tracked { rest, .. }) => {
                rest.as_ref().is_none_or(Remainder::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Untracked(body) => body.size_hint(),
            Inner::Tracked(Tracked { rest, .. }) => rest
                .as_ref()
                .map_or(SizeHint::with_exact(0), |rest| rest.body.size_hint()),
        }
    }
}

impl<B> Drop for Tracked<B> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            self.exchange.give_back(rest);
        }
    }
}

impl<B> fmt::Debug for TrackedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackedBody").finish_non_exhaustive()
    }
}

/// A body, and what is known of it, in whoever's hands it is.
pub(super) struct Remainder<B> {
    body: B,
    progress: Progress,
    touched: bool,
    expects_continue: bool,
    /// The connection it is of, where that is known, and its request's number.
    request: Option<(Arc<Connection>, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Open,
    Ended,
    Failed,
}

impl<B> Remainder<B> {
    pub(super) fn new(
        body: B,
        expects_continue: bool,
        request: Option<(Arc<Connection>, u64)>,
    ) -> Self {
        Self {
            body,
            progress: Progress::Open,
            touched: false,
            expects_continue,
            request,
        }
    }

    /// Nothing more comes of it. hyper reads nothing after a body that failed
    /// (`proto/h1/conn.rs`, `poll_read_body`), so that its connection closes.
    pub(super) fn finish(self) {
        match &self.request {
            Some((connection, _)) if self.progress == Progress::Failed => connection.close(),
            Some((connection, request)) => connection.finish(*request),
            None => {}
        }
    }

    /// Nobody reads it, and the answer says so. The hook learns it before hyper does.
    pub(super) fn close(self) {
        if let Some((connection, _)) = &self.request {
            connection.close();
        }
    }

    /// Has the answer held back for it.
    pub(super) fn hold_answer(&self) -> Option<Held> {
        let (connection, _) = self.request.as_ref()?;
        Some(Held::new(Arc::clone(connection)))
    }

    /// Whether a hook will see to it that the answer arrives.
    pub(super) fn is_joined(&self) -> bool {
        self.request.is_some()
    }

    /// The connection, where a hook will see to it that the answer arrives.
    pub(super) fn connection(&self) -> Option<&Arc<Connection>> {
        self.request.as_ref().map(|(connection, _)| connection)
    }

    /// It was read on for as long as is allowed, and the answer is still stalled.
    pub(super) fn cut(self) {
        if let Some((connection, request)) = &self.request {
            connection.cut(*request);
        }
    }
}

/// Frames to discard before other tasks have their turn.
pub(super) const FRAMES_PER_TURN: usize = 64;

impl<B: Body + Unpin> Remainder<B> {
    /// Reads a frame to throw it away; its length.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<u64, B::Error>>> {
        self.touched = true;
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(_)) => {}
            Some(Err(_)) => self.progress = Progress::Failed,
            None => self.progress = Progress::Ended,
        }
        let length = |frame: Frame<B::Data>| frame.data_ref().map_or(0, Buf::remaining) as u64;
        Poll::Ready(frame.map(|frame| frame.map(length)))
    }

    /// Throws away what is there. `Pending` where no more is there now, or the turn is
    /// over.
    pub(super) fn poll_discard(
        &mut self,
        cx: &mut Context<'_>,
        discarding: &mut Discarding,
        bounds: &Bounds,
    ) -> Poll<Ended> {
        let now = Instant::now().into_std();
        for _ in 0..FRAMES_PER_TURN {
            // hyper says the end of a body that it read after its answer only when the
            // next request comes; the body itself knows by its length.
            if let Some(end) = self.ended() {
                return Poll::Ready(end);
            }
            if let Some(Ok(bytes)) = ready!(self.poll_frame(cx)) {
                if let Some(end) = discarding.received(bytes, now, bounds) {
                    return Poll::Ready(end);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// What brought it to its end, as far as it is there.
    pub(super) fn ended(&self) -> Option<Ended> {
        match self.progress {
            Progress::Failed => Some(Ended::Reset),
            Progress::Ended => Some(Ended::Complete),
            Progress::Open => self.body.is_end_stream().then_some(Ended::Complete),
        }
    }

    /// Whether nothing more comes, be it for the end or for an error.
    pub(super) fn is_end_stream(&self) -> bool {
        self.ended().is_some()
    }

    pub(super) fn facts(&self, too_large: bool, persistent: bool) -> Facts {
        Facts {
            owed: self.body.size_hint().exact(),
            touched: self.touched,
            expects_continue: self.expects_continue,
            too_large,
            persistent,
        }
    }
}

/// Where a body is that was given to the service: the service's side of it is a
/// [`TrackedBody`], the answer's side asks once, when the answer is there.
pub(super) struct Exchange<B>(Arc<Mutex<Shared<B>>>);

struct Shared<B> {
    state: State<B>,
    /// How many parts of the answer the server has taken.
    taken: u64,
    /// The server has the whole answer, and who waits for that.
    answered: bool,
    waiting: Option<Waker>,
}

enum State<B> {
    /// With the service, before the answer.
    Held,
    /// With somebody still, after the answer: who takes care of it when it is let
    /// go of.
    HeldOn(Later<B>),
    /// Dropped by the service before its end.
    LetGo(Remainder<B>),
    /// It ended in an error.
    Failed,
    /// At its end, or nobody's business any more.
    Over,
}

/// What to do with a body that is let go of after the answer. No closure: that
/// would cost an allocation.
pub(super) struct Later<B> {
    pub(super) plan: Plan,
    pub(super) let_go: fn(&Plan, Remainder<B>, &Exchange<B>),
}

/// What the answer's side finds.
pub(super) enum Settled<B> {
    /// Nothing is owed.
    Over,
    /// It ended in an error: the server reads nothing more of this connection.
    Failed,
    /// Somebody holds on.
    Held,
    /// The service has let go of this.
    LetGo(Remainder<B>),
}

impl<B> Exchange<B> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Shared {
            state: State::Held,
            taken: 0,
            answered: false,
            waiting: None,
        })))
    }

    /// What has become of the body; if it is held on to, what `later` makes gets it,
    /// once.
    #[inline]
    pub(super) fn settle(&mut self, later: impl FnOnce() -> Later<B>) -> Settled<B> {
        // The service's side is gone, and nobody to be kept out: no lock is needed.
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            let shared = shared.get_mut().unwrap_or_else(PoisonError::into_inner);
            return match mem::replace(&mut shared.state, State::Over) {
                State::LetGo(rest) => Settled::LetGo(rest),
                State::Failed => Settled::Failed,
                State::Held | State::HeldOn(_) | State::Over => Settled::Over,
            };
        }
        let mut shared = self.lock();
        match mem::replace(&mut shared.state, State::Over) {
            State::LetGo(rest) => Settled::LetGo(rest),
            State::Held => {
                shared.state = State::HeldOn(later());
                Settled::Held
            }
            State::Failed => Settled::Failed,
            State::HeldOn(_) | State::Over => Settled::Over,
        }
    }

    /// The service has met an error in it.
    fn fail(&self) {
        self.lock().state = State::Failed;
    }

    fn give_back(&self, rest: Remainder<B>) {
        let mut shared = self.lock();
        match mem::replace(&mut shared.state, State::Over) {
            State::Held => shared.state = State::LetGo(rest),
            State::HeldOn(later) => {
                drop(shared);
                (later.let_go)(&later.plan, rest, self);
            }
            State::LetGo(_) | State::Failed | State::Over => {}
        }
    }

    /// Ready once the server has the whole answer.
    pub(super) fn poll_answered(&self, cx: &Context<'_>) -> Poll<()> {
        let mut shared = self.lock();
        if shared.answered {
            return Poll::Ready(());
        }
        shared.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    /// How many parts of the answer the server has taken.
    pub(super) fn taken(&self) -> u64 {
        self.lock().taken
    }

    /// The answer's body tells its end by this.
    pub(super) fn note(&self) -> Arc<dyn Answered>
    where
        B: Send + 'static,
    {
        Arc::clone(&self.0) as _
    }

    fn lock(&self) -> MutexGuard<'_, Shared<B>> {
        lock(&self.0)
    }
}

/// Bodies are dropped while unwinding, and no panic leaves this half-done.
fn lock<B>(shared: &Mutex<Shared<B>>) -> MutexGuard<'_, Shared<B>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes note of what the server has of the answer, whatever the request's body is.
pub(super) trait Answered: Send + Sync {
    /// The server has taken a part of it.
    fn taken(&self);

    /// The server has the whole answer.
    fn answered(&self);
}

impl<B: Send> Answered for Mutex<Shared<B>> {
    fn taken(&self) {
        let mut shared = lock(self);
        shared.taken = shared.taken.wrapping_add(1);
    }

    fn answered(&self) {
        let waiting = {
            let mut shared = lock(self);
            shared.answered = true;
            shared.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

impl<B> Clone for Exchange<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
