use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::handoff::ResponseProgress;

pin_project! {
    /// A response body that passed through [`Delivery`](super::Delivery). It yields the frames of
    /// the service's body.
    ///
    /// When it is dropped, delivery knows that the server has the whole response: hyper drops a
    /// body when it has taken the last frame.
    pub struct DeliveredBody<B> {
        // Dropped before `note`, so that everything the body holds is gone by then.
        #[pin]
        inner: B,
        note: Option<Note>,
    }
}

impl<B> DeliveredBody<B> {
    pub(super) fn plain(inner: B) -> Self {
        Self { inner, note: None }
    }

    pub(super) fn noted(inner: B, taken_whole: Arc<dyn ResponseProgress>) -> Self {
        let note = Some(Note(taken_whole));
        Self { inner, note }
    }

    /// Returns the service's body if delivery does not have to observe its end. Otherwise returns
    /// `self` as the error.
    #[cfg(feature = "axum")]
    pub(crate) fn into_plain(self) -> Result<B, Self> {
        match self.note {
            None => Ok(self.inner),
            Some(_) => Err(self),
        }
    }
}

struct Note(Arc<dyn ResponseProgress>);

impl Drop for Note {
    fn drop(&mut self) {
        self.0.taken_whole();
    }
}

impl<B: Body> Body for DeliveredBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let polled = this.inner.poll_frame(cx);
        if let (Some(Note(answer)), true) = (this.note, polled.is_ready()) {
            answer.part_taken();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> std::fmt::Debug for DeliveredBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliveredBody").finish_non_exhaustive()
    }
}
