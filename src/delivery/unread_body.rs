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
    shared::connection::{Connection, LeftBody, ResponseHold},
};

/// A request body and its state, while the service or delivery holds it.
pub(super) struct UnreadBody<B> {
    body: B,
    progress: Progress,
    touched: bool,
    expects_continue: bool,
    /// The connection, if it is known, and the number of the request on it.
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

    /// Records that the service met the body's end, or an error in it.
    pub(super) fn end(mut self, progress: Progress) {
        self.progress = progress;
        self.finish();
    }

    /// Returns the body for the service to poll.
    pub(super) fn touch(&mut self) -> &mut B {
        self.touched = true;
        &mut self.body
    }

    /// Records that no more bytes of the body come. hyper reads nothing after a body that failed
    /// (`proto/h1/conn.rs`, `poll_read_body`), so that connection closes.
    pub(super) fn finish(self) {
        match &self.request {
            Some((connection, _)) if self.progress == Progress::Failed => connection.close(),
            Some((connection, request)) => connection.finish(*request),
            None => {}
        }
    }

    /// Records that the body stays unread and that the response says `Connection: close`.
    /// `LingerIo` observes this before hyper does. If `left` is set, the half-close waits for that
    /// body.
    pub(super) fn close(self, left: Option<LeftBody>) {
        match (&self.request, left) {
            (Some((connection, _)), Some(left)) => connection.close_leaving(left),
            (Some((connection, _)), None) => connection.close(),
            (None, _) => {}
        }
    }

    /// Holds the response back until the returned value is dropped. Returns `None` if the
    /// connection is not known.
    pub(super) fn hold_response(&self) -> Option<ResponseHold> {
        let (connection, _) = self.request.as_ref()?;
        Some(ResponseHold::new(Arc::clone(connection)))
    }

    /// Returns whether a socket wrapper will deliver the response.
    pub(super) fn is_combined(&self) -> bool {
        self.request.is_some()
    }

    /// Returns the connection, if a socket wrapper will deliver the response.
    pub(super) fn connection(&self) -> Option<&Arc<Connection>> {
        self.request.as_ref().map(|(connection, _)| connection)
    }

    /// Returns whether hyper would drop the connection if it read more before the response is out.
    pub(super) fn has_ended_within_tls(&self) -> bool {
        let connection = self.connection();
        connection.is_some_and(|connection| connection.has_ended_within_tls())
    }

    /// Cuts the response, which is still blocked on a full send buffer when the drain has reached
    /// its limits.
    pub(super) fn cut(self) {
        if let Some((connection, request)) = &self.request {
            connection.cut(*request);
        }
    }
}

/// How many frames a task discards before it yields to other tasks.
pub(super) const FRAMES_PER_TURN: usize = 64;

impl<B: Body + Unpin> UnreadBody<B> {
    /// Reads and discards a frame, and returns its length.
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

    /// Discards the frames that are there. Returns `Pending` if no more are there now, or if other
    /// tasks have to run.
    pub(super) fn poll_discard(
        &mut self,
        cx: &mut Context<'_>,
        discarding: &mut Discarding,
        bounds: &Bounds,
    ) -> Poll<StopReason> {
        let now = Instant::now().into_std();
        for _ in 0..FRAMES_PER_TURN {
            // If hyper reads a body's last bytes after the response, the body's stream ends only
            // when the next request comes. Its length shows the end now.
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

    /// Returns why the body has ended, or `None` if it has not.
    pub(super) fn ended(&self) -> Option<StopReason> {
        match self.progress {
            Progress::Failed => Some(StopReason::Reset),
            Progress::Ended => Some(StopReason::Completed),
            Progress::Open => self.body.is_end_stream().then_some(StopReason::Completed),
        }
    }

    /// Returns whether nothing more comes, after the end or after an error.
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
