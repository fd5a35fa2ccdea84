//! Has the parts of an answer leave together.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    connection::Connection,
    sync::{AtomicU8, Ordering},
    waiter::Waiter,
};

/// Keeps a connection of HTTP/2 from writing while somebody holds it.
///
/// curl 7.88 ends its stream at once when it reads the head of an error, short of the
/// length that it declared. h2 answers that with a reset (RFC 9113 §8.1.1), and throws
/// away what it has not written of the answer. So the head does not leave alone.
///
/// One holds it at a time, and after that nobody before the connection has been free to
/// write: however many streams are refused, it waits no longer than one holds it. The
/// answers of the others leave with that one's, most often.
///
/// What its holder has done is there when the connection is free to write.
#[derive(Debug, Default)]
pub(crate) struct Cork {
    state: AtomicU8,
    writer: Waiter,
}

const FREE: u8 = 0;
const HELD: u8 = 1;
/// It was held, and nothing has been written since.
const SPENT: u8 = 2;

impl Cork {
    /// Ready while nobody holds it.
    pub(crate) fn poll_free(&self, cx: &Context<'_>) -> Poll<()> {
        self.writer.poll_until(cx, || self.is_free())
    }

    /// Who asks is about to write.
    fn is_free(&self) -> bool {
        match self.state.load(Ordering::Acquire) {
            HELD => false,
            SPENT => {
                self.state.store(FREE, Ordering::Release);
                true
            }
            _ => true,
        }
    }
}

/// Holds the cork of a connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Corked(Arc<Connection>);

impl Corked {
    /// `None` where somebody does already, or has only just done so.
    pub(crate) fn hold(connection: &Arc<Connection>) -> Option<Self> {
        let state = &connection.cork().state;
        let held = state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
        held.is_ok().then(|| Self(Arc::clone(connection)))
    }
}

impl Drop for Corked {
    fn drop(&mut self) {
        let cork = self.0.cork();
        cork.state.store(SPENT, Ordering::Release);
        cork.writer.wake();
    }
}

#[cfg(all(test, not(bodyguard_loom)))]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn nobody_follows_before_something_was_written() {
        let connection = Arc::new(Connection::default());
        let held = Corked::hold(&connection).unwrap();
        assert!(Corked::hold(&connection).is_none());
        let mut free = pin!(poll_fn(|cx| connection.cork().poll_free(cx)));
        assert!(free.as_mut().now_or_never().is_none());
        let freed = tokio::join!(free, async {
            drop(held);
            assert!(Corked::hold(&connection).is_none());
        });
        assert_eq!(freed, ((), ()));
        assert!(Corked::hold(&connection).is_some());
    }
}
