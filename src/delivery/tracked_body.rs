use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};

use super::{
    disposition::Disposition,
    handoff::BodyHandoff,
    unread_body::{Progress, UnreadBody},
    window_hold::WindowHold,
};

/// A request body that returns to [`Delivery`](super::Delivery) when the service drops it before
/// its end.
///
/// It yields the frames of the inner body. After the end or an error it drops the inner body, and
/// yields no more frames.
pub struct TrackedBody<B>(Inner<B>);

enum Inner<B> {
    /// The body of a request that needs no tracking, because it has none.
    Untracked(B),
    Tracked(Tracked<B>),
}

struct Tracked<B> {
    /// `None` after the end or an error.
    rest: Option<UnreadBody<B>>,
    handoff: BodyHandoff<B, Disposition>,
    /// Set for HTTP/2 on a combined connection.
    unread: Option<WindowHold>,
}

impl<B> TrackedBody<B> {
    pub(super) fn untracked(body: B) -> Self {
        Self(Inner::Untracked(body))
    }

    pub(super) fn tracked(
        rest: UnreadBody<B>,
        handoff: BodyHandoff<B, Disposition>,
        unread: Option<WindowHold>,
    ) -> Self {
        Self(Inner::Tracked(Tracked {
            rest: Some(rest),
            handoff,
            unread,
        }))
    }

    /// Drops the inner body after its end or an error. Not inlined, because the frames before the
    /// last one do not need it.
    #[inline(never)]
    fn end(&mut self, progress: Progress) {
        let Inner::Tracked(Tracked {
            rest,
            handoff,
            unread,
        }) = &mut self.0
        else {
            return;
        };
        *unread = None;
        if let Some(rest) = rest.take() {
            if progress == Progress::Failed {
                handoff.fail();
            }
            rest.end(progress);
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
                Some(rest) => rest.touch(),
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
                rest.as_ref().is_none_or(UnreadBody::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Untracked(body) => body.size_hint(),
            Inner::Tracked(Tracked { rest, .. }) => rest
                .as_ref()
                .map_or(SizeHint::with_exact(0), |rest| rest.size_hint()),
        }
    }
}

impl<B> Drop for Tracked<B> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            self.handoff.give_back(rest);
        }
    }
}

impl<B> fmt::Debug for TrackedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackedBody").finish_non_exhaustive()
    }
}
