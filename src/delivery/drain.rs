use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::Body;
use pin_project_lite::pin_project;
use tokio::{runtime::Handle, time::Instant};

use super::exchange::Remainder;
use crate::{
    bounds::{Bounds, Discarding, End},
    patience::Patience,
};

/// What a kept connection is worth: how much of a refused body is read on, and
/// for how long.
///
/// The default is 1 MiB and 5 s. The bytes are about what a new TCP and TLS
/// connection costs on a path of 20 Mbit/s and 100 ms; the time is what Kestrel
/// allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    bytes: u64,
    total: Duration,
}

impl Drain {
    /// With the default bounds.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: 1 << 20,
            total: Duration::from_secs(5),
        }
    }

    /// How many bytes are read to keep a connection. 0 keeps none that would have
    /// to wait.
    #[must_use]
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// How long a drain takes at most.
    #[must_use]
    pub const fn total(mut self, total: Duration) -> Self {
        self.total = total;
        self
    }

    pub(super) fn budget(&self) -> u64 {
        self.bytes
    }

    /// To keep the connection.
    pub(super) fn to_keep(self) -> Bounds {
        Bounds {
            idle: self.total,
            total: self.total,
            bytes: Some(self.bytes),
        }
    }

    /// To deliver an answer where no hook will: as much as comes in that time.
    pub(super) fn to_deliver(self) -> Bounds {
        Bounds {
            bytes: None,
            ..self.to_keep()
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads on in a task of its own. Where there is no runtime, the rest is let go.
pub(super) fn spawn<B>(rest: Remainder<B>, bounds: Bounds)
where
    B: Body + Unpin + Send + 'static,
{
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(Draining::new(rest, bounds));
    }
}

pin_project! {
    /// Reads a body to its end, or to a bound; then lets go of it.
    struct Draining<B> {
        rest: Option<Remainder<B>>,
        discarding: Discarding,
        bounds: Bounds,
        #[pin]
        patience: Patience,
    }
}

/// Frames to discard before other tasks have their turn.
const FRAMES_PER_TURN: usize = 64;

impl<B> Draining<B> {
    fn new(rest: Remainder<B>, bounds: Bounds) -> Self {
        Self {
            rest: Some(rest),
            discarding: Discarding::new(Instant::now().into_std()),
            bounds,
            patience: Patience::default(),
        }
    }
}

impl<B: Body + Unpin> Draining<B> {
    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let this = self.project();
        let Some(rest) = this.rest else {
            return Poll::Ready(End::Complete);
        };
        let now = Instant::now().into_std();
        for _ in 0..FRAMES_PER_TURN {
            let Poll::Ready(frame) = rest.poll_frame(cx) else {
                return this.patience.poll_over(cx, this.discarding, this.bounds);
            };
            let end = match frame {
                None => Some(End::Complete),
                Some(Err(_)) => Some(End::Reset),
                Some(Ok(bytes)) => this.discarding.received(bytes, now, this.bounds),
            };
            if let Some(end) = end {
                return Poll::Ready(end);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<B: Body + Unpin> Future for Draining<B> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let end = ready!(self.as_mut().poll_end(cx));
        if let Some(rest) = self.project().rest.take() {
            match end {
                End::Complete => rest.finish(),
                _ => rest.give_up(),
            }
        }
        Poll::Ready(())
    }
}
