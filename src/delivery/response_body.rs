use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::handoff::ResponseProgress;

pin_project! {
    /// The body of a response that passed through [`Delivery`](super::Delivery): the
    /// service's own.
    ///
    /// Its drop tells that the server has the whole answer: hyper drops a body when it
    /// has taken its last frame.
    pub struct DeliveredBody<B> {
        // Dropped before the note, so that what it holds is gone by then.
        #[pin]
        inner: B,
        note: Option<Note>,
    }
}

impl<B> DeliveredBody<B> {
    pub(super) fn plain(inner: B) -> Self {
        Self { inner, note: None }
    }

    pub(super) fn noted(inner: B, answered: Arc<dyn ResponseProgress>) -> Self {
        let note = Some(Note(answered));
        Self { inner, note }
    }

    /// The body itself, where its end is nobody's business; itself, where it is.
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
        self.0.answered();
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
