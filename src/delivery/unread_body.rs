use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::policy::Facts;
use crate::{
    budget::{Bounds, Discarding, StopReason},
    shared::connection::{Connection, ResponseHold},
};

/// A body, and what is known of it, in whoever's hands it is.
pub(super) struct UnreadBody<B> {
    body: B,
    progress: Progress,
    touched: bool,
    expects_continue: bool,
    /// The connection it is of, where that is known, and its request's number.
    request: Option<(Arc<Connection>, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Open,
    Ended,
    Failed,
}

impl<B> UnreadBody<B> {
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

    /// The service has met its end, or an error in it.
    pub(super) fn end(mut self, progress: Progress) {
        self.progress = progress;
        self.finish();
    }

    /// Returns the body for the service to read.
    pub(super) fn touch(&mut self) -> &mut B {
        self.touched = true;
        &mut self.body
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
    pub(super) fn hold_answer(&self) -> Option<ResponseHold> {
        let (connection, _) = self.request.as_ref()?;
        Some(ResponseHold::new(Arc::clone(connection)))
    }

    /// Whether a hook will see to it that the answer arrives.
    pub(super) fn is_joined(&self) -> bool {
        self.request.is_some()
    }

    /// The connection, where a hook will see to it that the answer arrives.
    pub(super) fn connection(&self) -> Option<&Arc<Connection>> {
        self.request.as_ref().map(|(connection, _)| connection)
    }

    /// Whether hyper would give the client up if it read on before the answer is out.
    pub(super) fn has_ended_within_tls(&self) -> bool {
        let connection = self.connection();
        connection.is_some_and(|connection| connection.has_ended_within_tls())
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

impl<B: Body + Unpin> UnreadBody<B> {
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
    ) -> Poll<StopReason> {
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
    pub(super) fn ended(&self) -> Option<StopReason> {
        match self.progress {
            Progress::Failed => Some(StopReason::Reset),
            Progress::Ended => Some(StopReason::Completed),
            Progress::Open => self.body.is_end_stream().then_some(StopReason::Completed),
        }
    }

    /// Whether nothing more comes, be it for the end or for an error.
    pub(super) fn is_end_stream(&self) -> bool {
        self.ended().is_some()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
