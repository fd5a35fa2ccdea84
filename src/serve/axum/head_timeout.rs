//! A timeout for the first request head of a connection.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::linger::LingerIo;

/// A socket whose reads fail if the client has not sent a request in time.
///
/// hyper's own timeout does not serve here, for two reasons. It begins only when hyper-util knows
/// which version the client speaks, and hyper-util waits for that without a limit
/// (`hyper_util::server::conn::auto`, `ReadVersion`). It also applies to connections that are kept
/// and idle. This timeout ends with the first request over HTTP/1. It also ends with the first
/// write, which over HTTP/2 follows the preface.
///
/// The socket and its timer are in one box: hyper moves a connection's socket a dozen times before
/// the first read, and a timer must not move.
pub(super) struct HeadTimeout<T>(Pin<Box<Timed<T>>>);

pin_project! {
    #[project = TimedProj]
    struct Timed<T> {
        io: LingerIo<T>,
        // `None` once the timeout has ended, or if there is none.
        #[pin]
        timeout: Option<Sleep>,
    }
}

impl<T> HeadTimeout<T> {
    pub(super) fn new(io: LingerIo<T>, timeout: Option<Duration>) -> Self {
        let timeout = timeout.map(sleep);
        Self(Box::pin(Timed { io, timeout }))
    }

    fn io(&mut self) -> Pin<&mut LingerIo<T>>
    where
        T: Unpin,
    {
        Pin::new(self.0.as_mut().project().io)
    }

    /// Ends the timeout.
    fn end(&mut self) {
        self.0.as_mut().project().timeout.set(None);
    }
}

/// A timer that is due before the timers of new connections.
///
/// When tokio's I/O thread goes to sleep, it knows which timer is due first. A new timer that is
/// due earlier has to wake it, with a write to a file descriptor
/// (`runtime::time::Handle::reregister`). In a server without other timers, the timeout of each new
/// connection would cause such a write. The earlier timer prevents that. It is short, because a
/// runtime with a timer also reads the clock whenever it goes to sleep.
pub(super) struct EarlierTimer {
    period: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// How long the earlier timer goes on after the last new connection, at most.
const EARLIER_PERIOD: Duration = Duration::from_secs(1);

impl EarlierTimer {
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        let period = timeout.map(|timeout| (timeout / 2).min(EARLIER_PERIOD));
        let timer = None;
        Self { period, timer }
    }

    /// Starts the timer again if it is over. Call it before each connection.
    pub(super) fn keep(&mut self) {
        if self.timer.as_ref().is_some_and(|timer| !timer.is_elapsed()) {
            return;
        }
        self.timer = self.period.map(|period| {
            let mut timer = Box::pin(sleep(period));
            // The runtime knows a timer only after its first poll. No task waits for this one.
            let _ = timer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            timer
        });
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for HeadTimeout<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let TimedProj { io, mut timeout } = self.0.as_mut().project();
        let read = Pin::new(&mut *io).poll_read(cx, buf);
        if timeout.is_none() {
            return read;
        }
        if io
            .connection()
            .is_some_and(|connection| connection.begun() > 0)
        {
            timeout.set(None);
        }
        if let (Some(timeout), true) = (timeout.as_pin_mut(), read.is_pending()) {
            ready!(timeout.poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> AsyncWrite for HeadTimeout<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.end();
        self.io().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.end();
        self.io().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }
}
