//! Has the parts of an answer leave together.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use crate::connection::Connection;

/// Keeps a connection of HTTP/2 from writing while anybody holds it.
///
/// curl 7.88 ends its stream at once when it reads the head of an error, short of the
/// length that it declared. h2 answers that with a reset (RFC 9113 §8.1.1), and throws
/// away what it has not written of the answer. So the head does not leave alone.
///
/// The order is: a waiter leaves its waker, then looks again; a holder lets go, then
/// wakes.
#[derive(Debug, Default)]
pub(crate) struct Cork {
    holders: AtomicUsize,
    waiting: Mutex<Option<Waker>>,
}

impl Cork {
    /// Ready while nobody holds it.
    pub(crate) fn poll_free(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_free() {
            return Poll::Ready(());
        }
        match &mut *self.waiting() {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        match self.is_free() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn is_free(&self) -> bool {
        self.holders.load(Ordering::Acquire) == 0
    }

    /// A panic elsewhere leaves nothing half-done behind this lock.
    fn waiting(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds the cork of a connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Corked(Arc<Connection>);

impl Corked {
    pub(crate) fn hold(connection: &Arc<Connection>) -> Self {
        connection.cork().holders.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(connection))
    }
}

impl Drop for Corked {
    fn drop(&mut self) {
        let cork = self.0.cork();
        if cork.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            let waiting = cork.waiting().take();
            if let Some(waker) = waiting {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_last_holder_frees_who_waits() {
        let connection = Arc::new(Connection::default());
        let [first, second] = [(); 2].map(|()| Corked::hold(&connection));
        let mut free = pin!(poll_fn(|cx| connection.cork().poll_free(cx)));
        assert!(free.as_mut().now_or_never().is_none());
        drop(first);
        let freed = tokio::join!(free, async { drop(second) });
        assert_eq!(freed, ((), ()));
    }
}
