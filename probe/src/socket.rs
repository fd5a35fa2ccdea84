//! A TCP socket that notes failed writes, resets, and when the response came.
//!
//! Linux hides the fault that the probe looks for: a client can read what it received before a
//! reset. Windows discards these bytes. So before each read, the socket asks the kernel whether a
//! reset has arrived already (`SO_ERROR`). If it has, the bytes that follow count as read after a
//! reset.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use crate::volume::Volume;

/// The notes about one connection.
#[derive(Clone, Debug)]
pub(crate) struct Notes {
    pub(crate) failed_write: Option<String>,
    pub(crate) reset: Option<String>,
    /// When the first byte of the server could be read. Only noted if it is a response's.
    pub(crate) readable_at: Option<Instant>,
    /// When a byte moved last, in any direction.
    pub(crate) moved_at: Instant,
    /// Whether `--max-volume` stopped a write.
    pub(crate) volume_is_used_up: bool,
}

impl Notes {
    /// Returns whether the connection has failed as far as the client could notice.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed_write.is_some() || self.reset.is_some()
    }

    fn note(&mut self, error: &io::Error, when: &str) {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
        if matches!(
            error.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected
        ) {
            self.reset.get_or_insert_with(|| format!("{when}: {error}"));
        }
    }
}

/// The notes about one connection, shared with the client.
#[derive(Clone, Debug)]
pub(crate) struct Log(Arc<Mutex<Notes>>);

impl Log {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Notes {
            failed_write: None,
            reset: None,
            readable_at: None,
            moved_at: Instant::now(),
            volume_is_used_up: false,
        })))
    }

    pub(crate) fn notes(&self) -> Notes {
        self.lock().clone()
    }

    /// Notes a write that failed above the socket, on a stream of HTTP/2 or HTTP/3.
    pub(crate) fn note_failed_write(&self, error: impl Into<String>) {
        self.lock().failed_write.get_or_insert(error.into());
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A TCP socket that notes what happens to it, and sends within the volume.
#[derive(Debug)]
pub(crate) struct Watched {
    socket: TcpStream,
    log: Log,
    volume: Arc<Volume>,
    /// Whether the first byte that becomes readable is a response's. With TLS it is not.
    watches_response: bool,
}

impl Watched {
    pub(crate) fn new(socket: TcpStream, volume: Arc<Volume>, watches_response: bool) -> Self {
        Self {
            socket,
            log: Log::new(),
            volume,
            watches_response,
        }
    }

    pub(crate) fn log(&self) -> Log {
        self.log.clone()
    }

    /// Looks whether a response has come, and leaves it unread.
    fn peek(&mut self, cx: &mut Context<'_>) {
        if !self.watches_response || self.log.lock().readable_at.is_some() {
            return;
        }
        let mut byte = [0];
        match self.socket.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Ok(1)) => self.log.lock().readable_at = Some(Instant::now()),
            Poll::Ready(Err(error)) => self.log.lock().note(&error, "before a write"),
            Poll::Ready(Ok(_)) | Poll::Pending => {}
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.peek(cx);
        let most = usize::try_from(self.volume.left()).unwrap_or(usize::MAX);
        if most == 0 {
            self.log.lock().volume_is_used_up = true;
            return Poll::Ready(Err(io::Error::other("--max-volume is used up")));
        }
        let bytes = &bytes[..bytes.len().min(most)];
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes));
        let mut notes = self.log.lock();
        match &written {
            Ok(written) => {
                self.volume.spend(*written as u64);
                notes.moved_at = Instant::now();
            }
            Err(error) => {
                notes.failed_write.get_or_insert_with(|| error.to_string());
                notes.note(error, "a write failed");
            }
        }
        drop(notes);
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Ok(Some(error)) = self.socket.take_error() {
            self.log.lock().note(&error, "before a read");
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, buffer));
        let mut notes = self.log.lock();
        match &read {
            Ok(()) if buffer.filled().len() > before => {
                notes.moved_at = Instant::now();
                if self.watches_response {
                    notes.readable_at.get_or_insert_with(Instant::now);
                }
            }
            Ok(()) => {}
            Err(error) => notes.note(error, "a read failed"),
        }
        drop(notes);
        Poll::Ready(read)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> (Watched, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (server, _) = listener.accept().await.unwrap();
        let volume = Arc::new(Volume::new(1 << 20));
        (Watched::new(client.unwrap(), volume, true), server)
    }

    #[tokio::test]
    async fn byte_behind_a_reset_is_read_after_the_reset() {
        let (mut client, mut server) = pair().await;
        client.write_all(b"unread").await.unwrap();
        server.readable().await.unwrap();
        server.write_all(b"x").await.unwrap();
        // Unread bytes make the kernel reset the connection.
        drop(server);
        assert!(!client.log().notes().has_failed());
        // Linux still has the byte.
        client.read_u8().await.unwrap();
        let notes = client.log().notes();
        assert!(notes.reset.is_some(), "{notes:?}");
    }

    #[tokio::test]
    async fn byte_before_a_reset_is_read_before_the_reset() {
        let (mut client, mut server) = pair().await;
        client.write_all(b"unread").await.unwrap();
        server.readable().await.unwrap();
        server.write_all(b"x").await.unwrap();
        client.read_u8().await.unwrap();
        assert!(!client.log().notes().has_failed());
        drop(server);
        assert!(client.read_u8().await.is_err());
        assert!(client.log().notes().reset.is_some());
    }

    #[tokio::test]
    async fn response_is_noted_before_it_is_read() {
        let (mut client, mut server) = pair().await;
        server.write_all(b"x").await.unwrap();
        // The peek at the first write waits for the event.
        client.socket.readable().await.unwrap();
        client.write_all(b"y").await.unwrap();
        assert!(client.log().notes().readable_at.is_some());
        assert_eq!(client.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn no_byte_is_sent_beyond_the_volume() {
        let (mut client, mut server) = pair().await;
        client.volume = Arc::new(Volume::new(3));
        assert!(client.write_all(b"12345").await.is_err());
        assert!(client.log().notes().volume_is_used_up);
        drop(client);
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"123");
    }
}
