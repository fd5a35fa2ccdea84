//! Hands a request body from the service back to the response.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::unread_body::UnreadBody;

/// The state that a [`TrackedBody`](super::TrackedBody) shares with the response's future. The
/// service holds the `TrackedBody`. The future asks for the body once, when the response is ready.
///
/// `P` is the state that the future leaves for a body that the service still holds then.
pub(super) struct BodyHandoff<B, P>(Arc<Mutex<HandoffCell<B, P>>>);

struct HandoffCell<B, P> {
    state: HandoffState<B, P>,
    /// How many parts of the response the server has taken.
    taken: u64,
    /// Whether the server has the whole response.
    taken_whole: bool,
    /// The task that waits until the server has the whole response.
    waiting: Option<Waker>,
}

enum HandoffState<B, P> {
    /// The service holds the body, and the response is not ready.
    Held,
    /// The response is ready, and the service still holds the body.
    HeldOn(OnRelease<B, P>),
    /// The service dropped the body before its end.
    Released(UnreadBody<B>),
    /// The body ended in an error.
    Failed,
    /// The body was read to its end, or has been handed over.
    Over,
}

impl<B, P> HandoffState<B, P> {
    /// Returns whether nothing is unread, once the service has dropped its handle.
    fn is_over(&self) -> bool {
        match self {
            Self::Held | Self::HeldOn(_) | Self::Over => true,
            Self::Released(_) | Self::Failed => false,
        }
    }
}

/// The action that runs when the service drops a body after the response is ready. It is not a
/// closure, because a closure would cost an allocation.
pub(super) struct OnRelease<B, P> {
    pub(super) disposition: P,
    pub(super) release: fn(&P, UnreadBody<B>, &BodyHandoff<B, P>),
}

/// The state of the body when the response is ready.
pub(super) enum Settled<B> {
    /// The body was read to its end.
    Over,
    /// The body ended in an error: the server reads nothing more from this connection.
    Failed,
    /// The service still holds the body.
    Held,
    /// The service has dropped the body before its end.
    Released(UnreadBody<B>),
}

impl<B, P> BodyHandoff<B, P> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(HandoffCell {
            state: HandoffState::Held,
            taken: 0,
            taken_whole: false,
            waiting: None,
        })))
    }

    /// Returns whether the body is known to have been read to its end. This is cheap.
    #[inline]
    pub(super) fn is_over(&mut self) -> bool {
        // The service has dropped its handle, so no lock is needed.
        let shared = Arc::get_mut(&mut self.0).map(Mutex::get_mut);
        shared.is_some_and(|cell| matches!(cell, Ok(cell) if cell.state.is_over()))
    }

    /// Takes the body if the service has dropped it. Otherwise registers `on_release`, which
    /// runs once, when the service drops it.
    #[inline]
    pub(super) fn settle(&mut self, on_release: impl FnOnce() -> OnRelease<B, P>) -> Settled<B> {
        // The service has dropped its handle, so no lock is needed.
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

    /// Records that the service met an error in the body.
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

    /// Returns the progress of the response, without the type of the body.
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

/// Locks the cell, and ignores poisoning. Bodies are dropped while unwinding, and no panic leaves
/// the cell half-updated.
fn lock<B, P>(shared: &Mutex<HandoffCell<B, P>>) -> MutexGuard<'_, HandoffCell<B, P>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much of a response the server has taken, for any type of request body.
pub(super) trait ResponseProgress: Send + Sync {
    /// Records that the server has taken a part of the response.
    fn part_taken(&self);

    /// Records that the server has the whole response.
    fn taken_whole(&self);

    /// Returns how many parts of the response the server has taken.
    fn parts_taken(&self) -> u64;

    /// Completes once the server has the whole response.
    fn poll_taken_whole(&self, cx: &Context<'_>) -> Poll<()>;
}

impl<B: Send, P: Send> ResponseProgress for Mutex<HandoffCell<B, P>> {
    fn part_taken(&self) {
        let mut shared = lock(self);
        shared.taken = shared.taken.wrapping_add(1);
    }

    fn taken_whole(&self) {
        let waiting = {
            let mut shared = lock(self);
            shared.taken_whole = true;
            shared.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    fn parts_taken(&self) -> u64 {
        lock(self).taken
    }

    fn poll_taken_whole(&self, cx: &Context<'_>) -> Poll<()> {
        let mut shared = lock(self);
        if shared.taken_whole {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts the bodies that are released after the response is ready.
    type Released = Arc<AtomicUsize>;

    fn unread() -> UnreadBody<()> {
        UnreadBody::new((), false, None)
    }

    fn on_release(released: &Released) -> OnRelease<(), Released> {
        OnRelease {
            disposition: Arc::clone(released),
            release: |released, _, _| {
                released.fetch_add(1, Ordering::SeqCst);
            },
        }
    }

    /// Both sides of a handoff: the service's and the response's.
    fn handoff() -> (BodyHandoff<(), Released>, BodyHandoff<(), Released>) {
        let response = BodyHandoff::new();
        (response.clone(), response)
    }

    fn never() -> OnRelease<(), Released> {
        panic!("the service has released the body")
    }

    #[test]
    fn body_released_before_the_response_is_taken_once() {
        for drops_side in [false, true] {
            let (service, mut response) = handoff();
            service.give_back(unread());
            let service = (!drops_side).then_some(service);
            assert!(matches!(response.settle(never), Settled::Released(_)));
            assert!(matches!(response.settle(never), Settled::Over));
            drop(service);
        }
    }

    #[test]
    fn body_released_after_the_response_runs_on_release_once() {
        let released = Released::default();
        let (service, mut response) = handoff();
        let settled = response.settle(|| on_release(&released));
        assert!(matches!(settled, Settled::Held));
        assert_eq!(released.load(Ordering::SeqCst), 0);
        service.give_back(unread());
        service.give_back(unread());
        assert_eq!(released.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn body_that_was_read_to_its_end_is_over() {
        let (service, mut response) = handoff();
        drop(service);
        assert!(matches!(response.settle(never), Settled::Over));
    }

    #[test]
    fn body_that_failed_is_not_released() {
        for drops_side in [false, true] {
            let (service, mut response) = handoff();
            service.fail();
            let service = (!drops_side).then_some(service);
            assert!(matches!(response.settle(never), Settled::Failed));
            drop(service);
        }
    }

    #[test]
    fn release_may_use_the_handoff() {
        let released = Released::default();
        let (service, mut response) = handoff();
        response.settle(|| OnRelease {
            disposition: Arc::clone(&released),
            release: |released, _, handoff| {
                // No lock is held.
                handoff.progress().part_taken();
                released.fetch_add(1, Ordering::SeqCst);
            },
        });
        service.give_back(unread());
        assert_eq!(released.load(Ordering::SeqCst), 1);
        assert_eq!(response.progress().parts_taken(), 1);
    }

    #[test]
    fn progress_wakes_its_task_when_the_response_is_whole() {
        struct Woken(AtomicUsize);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        let (_service, response) = handoff();
        let progress = response.progress();
        assert!(progress.poll_taken_whole(&cx).is_pending());
        progress.part_taken();
        assert_eq!(
            (progress.parts_taken(), woken.0.load(Ordering::SeqCst)),
            (1, 0)
        );
        progress.taken_whole();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(progress.poll_taken_whole(&cx).is_ready());
    }
}
