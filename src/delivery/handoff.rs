//! Hands a request body from the service back to the response.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::unread_body::UnreadBody;

/// HandoffCell by a [`TrackedBody`](super::TrackedBody), which the service has, and the response's
/// future, which asks for the body once, when the response is ready.
///
/// `P` is what the future leaves behind for a body that the service still holds then.
pub(super) struct BodyHandoff<B, P>(Arc<Mutex<HandoffCell<B, P>>>);

struct HandoffCell<B, P> {
    state: HandoffState<B, P>,
    /// How many parts of the response the server has taken.
    taken: u64,
    /// The server has the whole response.
    answered: bool,
    /// The task that waits for `answered`.
    waiting: Option<Waker>,
}

enum HandoffState<B, P> {
    /// The service holds it, and the response is not ready.
    Held,
    /// The response is ready, and the service still holds it.
    HeldOn(OnRelease<B, P>),
    /// Dropped by the service before its end.
    Released(UnreadBody<B>),
    /// It ended in an error.
    Failed,
    /// It was read to its end, or has been handed over.
    Over,
}

/// Runs when the service drops a body after the response is ready. It is no closure, because
/// that would cost an allocation.
pub(super) struct OnRelease<B, P> {
    pub(super) disposition: P,
    pub(super) release: fn(&P, UnreadBody<B>, &BodyHandoff<B, P>),
}

/// What the response's future finds.
pub(super) enum Settled<B> {
    /// The body was read to its end.
    Over,
    /// The body ended in an error: the server reads nothing more from this connection.
    Failed,
    /// The service still holds the body.
    Held,
    /// The service has dropped this before its end.
    Released(UnreadBody<B>),
}

impl<B, P> BodyHandoff<B, P> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(HandoffCell {
            state: HandoffState::Held,
            taken: 0,
            answered: false,
            waiting: None,
        })))
    }

    /// Takes the body if the service has dropped it. Otherwise registers `on_release`, which
    /// runs once, when the service drops it.
    #[inline]
    pub(super) fn settle(&mut self, on_release: impl FnOnce() -> OnRelease<B, P>) -> Settled<B> {
        // The service has dropped its side: no lock is needed.
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            let shared = shared.get_mut().unwrap_or_else(PoisonError::into_inner);
            return match mem::replace(&mut shared.state, HandoffState::Over) {
                HandoffState::Released(rest) => Settled::Released(rest),
                HandoffState::Failed => Settled::Failed,
                HandoffState::Held | HandoffState::HeldOn(_) | HandoffState::Over => Settled::Over,
            };
        }
        let mut shared = self.lock();
        match mem::replace(&mut shared.state, HandoffState::Over) {
            HandoffState::Released(rest) => Settled::Released(rest),
            HandoffState::Held => {
                shared.state = HandoffState::HeldOn(on_release());
                Settled::Held
            }
            HandoffState::Failed => Settled::Failed,
            HandoffState::HeldOn(_) | HandoffState::Over => Settled::Over,
        }
    }

    /// The service has met an error in it.
    pub(super) fn fail(&self) {
        self.lock().state = HandoffState::Failed;
    }

    pub(super) fn give_back(&self, rest: UnreadBody<B>) {
        let mut shared = self.lock();
        match mem::replace(&mut shared.state, HandoffState::Over) {
            HandoffState::Held => shared.state = HandoffState::Released(rest),
            HandoffState::HeldOn(on_release) => {
                drop(shared);
                (on_release.release)(&on_release.disposition, rest, self);
            }
            HandoffState::Released(_) | HandoffState::Failed | HandoffState::Over => {}
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

    fn lock(&self) -> MutexGuard<'_, HandoffCell<B, P>> {
        lock(&self.0)
    }
}

/// Bodies are dropped while unwinding, and no panic leaves this half-done.
fn lock<B, P>(shared: &Mutex<HandoffCell<B, P>>) -> MutexGuard<'_, HandoffCell<B, P>> {
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

impl<B: Send, P: Send> ResponseProgress for Mutex<HandoffCell<B, P>> {
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
