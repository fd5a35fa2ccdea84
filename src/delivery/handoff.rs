//! The body on its way through the service, and back.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::unread_body::UnreadBody;

/// Where a body is that was given to the service: the service's side of it is a
/// [`TrackedBody`](super::TrackedBody), the answer's side asks once, when the answer is there.
///
/// `P` is what the answer's side leaves for a body that is still held then.
pub(super) struct BodyHandoff<B, P>(Arc<Mutex<Shared<B, P>>>);

struct Shared<B, P> {
    state: State<B, P>,
    /// How many parts of the answer the server has taken.
    taken: u64,
    /// The server has the whole answer, and who waits for that.
    answered: bool,
    waiting: Option<Waker>,
}

enum State<B, P> {
    /// With the service, before the answer.
    Held,
    /// With somebody still, after the answer: who takes care of it when it is let
    /// go of.
    HeldOn(OnRelease<B, P>),
    /// Dropped by the service before its end.
    Released(UnreadBody<B>),
    /// It ended in an error.
    Failed,
    /// At its end, or nobody's business any more.
    Over,
}

/// What to do with a body that is let go of after the answer. No closure: that
/// would cost an allocation.
pub(super) struct OnRelease<B, P> {
    pub(super) disposition: P,
    pub(super) release: fn(&P, UnreadBody<B>, &BodyHandoff<B, P>),
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
    Released(UnreadBody<B>),
}

impl<B, P> BodyHandoff<B, P> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Shared {
            state: State::Held,
            taken: 0,
            answered: false,
            waiting: None,
        })))
    }

    /// What has become of the body; if it is held on to, what `on_release` makes gets it,
    /// once.
    #[inline]
    pub(super) fn settle(&mut self, on_release: impl FnOnce() -> OnRelease<B, P>) -> Settled<B> {
        // The service's side is gone, and nobody to be kept out: no lock is needed.
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            let shared = shared.get_mut().unwrap_or_else(PoisonError::into_inner);
            return match mem::replace(&mut shared.state, State::Over) {
                State::Released(rest) => Settled::Released(rest),
                State::Failed => Settled::Failed,
                State::Held | State::HeldOn(_) | State::Over => Settled::Over,
            };
        }
        let mut shared = self.lock();
        match mem::replace(&mut shared.state, State::Over) {
            State::Released(rest) => Settled::Released(rest),
            State::Held => {
                shared.state = State::HeldOn(on_release());
                Settled::Held
            }
            State::Failed => Settled::Failed,
            State::HeldOn(_) | State::Over => Settled::Over,
        }
    }

    /// The service has met an error in it.
    pub(super) fn fail(&self) {
        self.lock().state = State::Failed;
    }

    pub(super) fn give_back(&self, rest: UnreadBody<B>) {
        let mut shared = self.lock();
        match mem::replace(&mut shared.state, State::Over) {
            State::Held => shared.state = State::Released(rest),
            State::HeldOn(on_release) => {
                drop(shared);
                (on_release.release)(&on_release.disposition, rest, self);
            }
            State::Released(_) | State::Failed | State::Over => {}
        }
    }

    /// Returns the progress of the answer, without the body.
    pub(super) fn progress(&self) -> Arc<dyn ResponseProgress>
    where
        B: Send + 'static,
        P: Send + 'static,
    {
        Arc::clone(&self.0) as _
    }

    fn lock(&self) -> MutexGuard<'_, Shared<B, P>> {
        lock(&self.0)
    }
}

/// Bodies are dropped while unwinding, and no panic leaves this half-done.
fn lock<B, P>(shared: &Mutex<Shared<B, P>>) -> MutexGuard<'_, Shared<B, P>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the server has of the answer, whatever the request's body is.
pub(super) trait ResponseProgress: Send + Sync {
    /// The server has taken a part of it.
    fn part_taken(&self);

    /// The server has the whole answer.
    fn answered(&self);

    /// How many parts of the answer the server has taken.
    fn parts_taken(&self) -> u64;

    /// Ready once the server has the whole answer.
    fn poll_answered(&self, cx: &Context<'_>) -> Poll<()>;
}

impl<B: Send, P: Send> ResponseProgress for Mutex<Shared<B, P>> {
    fn part_taken(&self) {
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

    fn parts_taken(&self) -> u64 {
        lock(self).taken
    }

    fn poll_answered(&self, cx: &Context<'_>) -> Poll<()> {
        let mut shared = lock(self);
        if shared.answered {
            return Poll::Ready(());
        }
        shared.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<B, P> Clone for BodyHandoff<B, P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
