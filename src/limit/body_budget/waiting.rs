use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::shared::BodyBudget;

type Acquiring = dyn Future<Output = Option<OwnedSemaphorePermit>> + Send + Sync;

/// A body that waits for its room, from its first poll on.
pub(in crate::limit) struct Waiting {
    permits: u32,
    wait_timeout: Duration,
    acquiring: Option<Pin<Box<Acquiring>>>,
    counted: Option<Counted>,
}

impl Waiting {
    pub(super) fn new(permits: u32, wait_timeout: Duration) -> Self {
        Self {
            permits,
            wait_timeout,
            acquiring: None,
            counted: None,
        }
    }

    /// Ready with the units, or without any when the time is over.
    pub(super) fn poll(
        &mut self,
        budget: &BodyBudget,
        cx: &mut Context<'_>,
    ) -> Poll<Option<OwnedSemaphorePermit>> {
        let acquiring = self.acquiring.get_or_insert_with(|| {
            self.counted = Some(Counted::new(budget));
            let room = Arc::clone(&budget.0.room);
            let acquire = timeout(self.wait_timeout, room.acquire_many_owned(self.permits));
            // The semaphore is never closed.
            Box::pin(async move { acquire.await.ok()?.ok() })
        });
        let permit = ready!(acquiring.as_mut().poll(cx));
        self.counted = None;
        Poll::Ready(permit)
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("permits", &self.permits)
            .finish_non_exhaustive()
    }
}

/// One of those that [`BodyBudget::waiting`] counts.
struct Counted(BodyBudget);

impl Counted {
    fn new(budget: &BodyBudget) -> Self {
        budget.0.waiting.fetch_add(1, Ordering::Relaxed);
        Self(budget.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
