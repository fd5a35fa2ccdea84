//! A timeout for the first request head of a connection.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::shared::connection::Connection;

/// A socket whose reads fail if the client has not sent a request in time.
///
/// hyper's own timeout does not serve here, for two reasons. It begins only when hyper-util knows
/// which version the client speaks, and hyper-util waits for that without a limit
/// (`hyper_util::server::conn::auto`, `ReadVersion`). It also applies to connections that are kept
/// and idle. This timeout ends with the first request over HTTP/1. It also ends with the first
/// write, which over HTTP/2 follows the preface.
pub(super) struct HeadTimeout<T> {
    io: T,
    /// `None` once the timeout has ended, or if there is none.
    timeout: Option<Pin<Box<Sleep>>>,
    connection: Option<Arc<Connection>>,
}

impl<T> HeadTimeout<T> {
    pub(super) fn new(
        io: T,
        timeout: Option<Duration>,
        connection: Option<Arc<Connection>>,
    ) -> Self {
        Self {
            io,
            timeout: timeout.map(|timeout| Box::pin(sleep(timeout))),
            connection,
        }
    }

    fn has_request(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|connection| connection.begun() > 0)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for HeadTimeout<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if self.timeout.is_some() && self.has_request() {
            self.timeout = None;
        }
        let timeout = self.timeout.as_mut().filter(|_| read.is_pending());
        match timeout.map(|timeout| timeout.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Some(Poll::Pending) | None => read,
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for HeadTimeout<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.timeout = None;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.timeout = None;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
