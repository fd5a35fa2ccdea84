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

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use bytes::Bytes;
    use http_body_util::channel::{Channel, Sender};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::connection::Connection;

    /// A body with its sender, on a connection; time is paused.
    fn draining(drain: Drain) -> (Sender<Bytes, Infallible>, Arc<Connection>) {
        let (sender, body) = Channel::new(1);
        let connection = Arc::new(Connection::default());
        let request = connection.begin();
        let rest = Remainder::new(body, false, Some((Arc::clone(&connection), request)));
        spawn(rest, drain.to_keep());
        (sender, connection)
    }

    async fn send(sender: &mut Sender<Bytes, Infallible>, bytes: usize) -> bool {
        sender.send_data(vec![0; bytes].into()).await.is_ok()
    }

    /// Until the drain has let go of the body.
    async fn until_gone(sender: &mut Sender<Bytes, Infallible>) {
        while send(sender, 0).await {
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_within_the_bounds_finishes_its_request() {
        let (mut sender, connection) = draining(Drain::new());
        for _ in 0..4 {
            sleep(Duration::from_secs(1)).await;
            assert!(send(&mut sender, 1 << 18).await);
        }
        drop(sender);
        sleep(Duration::from_millis(1)).await;
        assert!(connection.is_finished());
        assert!(!connection.is_closing());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_that_takes_too_long_closes() {
        let (mut sender, connection) = draining(Drain::new());
        let start = Instant::now();
        until_gone(&mut sender).await;
        assert_eq!(start.elapsed().as_secs(), 5);
        assert!(connection.is_closing());
        assert!(!connection.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_that_is_too_long_closes() {
        let (mut sender, connection) = draining(Drain::new().bytes(1000));
        assert!(send(&mut sender, 1000).await);
        assert!(send(&mut sender, 1).await);
        until_gone(&mut sender).await;
        assert!(connection.is_closing());
    }

    #[test]
    fn to_deliver_an_answer_only_time_counts() {
        let bounds = Drain::new().bytes(1000).to_deliver();
        assert_eq!((bounds.bytes, bounds.total), (None, Duration::from_secs(5)));
    }
}
