//! Discards what a socket receives, as cheaply as the system allows.

use std::{
    cell::RefCell,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};

use super::socket::tcp;

/// The maximum that one call discards, in bytes. Larger chunks need fewer system calls, but beyond
/// this size there is no further gain.
const CHUNK: usize = 256 * 1024;

/// How many chunks a task discards before it yields to other tasks. A client that is faster than
/// the server must not occupy a worker thread.
pub(super) const CHUNKS_PER_TURN: usize = 16;

thread_local! {
    /// One buffer for all connections of a thread, because its content is never read. If the kernel
    /// truncates, it does not even write to the buffer, and the buffer's pages are never touched.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The result of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The number of bytes that were discarded.
    Bytes(usize),
    /// The client has closed its side.
    End,
}

/// Discards the bytes that are there, one chunk at most.
///
/// # Errors
///
/// Returns the errors of the socket, most often a reset by the client.
pub(super) fn poll_discard<T>(io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<Found>>
where
    T: AsyncRead + Unpin + 'static,
{
    // Taken out, not borrowed, because a stream may discard in its own `poll_read`.
    let mut scratch = SCRATCH.take();
    scratch.reserve_exact(CHUNK);
    let read = poll_into(io, cx, &mut scratch.spare_capacity_mut()[..CHUNK]);
    SCRATCH.set(scratch);
    read.map_ok(|read| match read {
        0 => Found::End,
        bytes => Found::Bytes(bytes),
    })
}

fn poll_into<T>(
    io: &mut T,
    cx: &mut Context<'_>,
    spare: &mut [MaybeUninit<u8>],
) -> Poll<io::Result<usize>>
where
    T: AsyncRead + Unpin + 'static,
{
    if let Some(socket) = truncating(io) {
        return truncate::poll(socket, cx, spare);
    }
    let mut buf = ReadBuf::uninit(spare);
    ready!(Pin::new(io).poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(buf.filled().len()))
}

/// Returns the socket if the kernel can discard its bytes without copying them.
fn truncating<T: 'static>(io: &T) -> Option<&TcpStream> {
    tcp(io).filter(|_| truncate::AVAILABLE)
}

/// Writes as many bytes as the socket has room for, even if tokio takes the socket for not
/// writable. Returns `None` if there is no room, or if the system cannot tell. The next write
/// reports an error, if there is one.
pub(super) fn write_past_readiness<T: 'static>(io: &T, bytes: &[u8]) -> Option<usize> {
    let written = truncate::write(truncating(io)?, bytes).ok()?;
    (written > 0).then_some(written)
}

#[cfg(target_os = "linux")]
mod truncate {
    use socket2::SockRef;
    use tokio::io::Interest;

    use super::*;

    pub(super) const AVAILABLE: bool = true;

    pub(super) fn write(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        SockRef::from(socket).send_with_flags(bytes, libc::MSG_NOSIGNAL)
    }

    /// Calls `recv` with `MSG_TRUNC`: the kernel drops up to the buffer's length from its queue and
    /// copies nothing (tcp(7)).
    pub(super) fn poll(
        socket: &TcpStream,
        cx: &mut Context<'_>,
        spare: &mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(socket.poll_read_ready(cx))?;
            let mut short = None;
            let result = socket.try_io(Interest::READABLE, || {
                let read = SockRef::from(socket).recv_with_flags(spare, libc::MSG_TRUNC)?;
                if 0 < read && read < spare.len() {
                    // The queue is empty now. With `WouldBlock`, tokio waits for the next event
                    // without another call that finds nothing.
                    short = Some(read);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(read)
            });
            match (short, result) {
                (Some(read), _) => return Poll::Ready(Ok(read)),
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                (None, result) => return Poll::Ready(result),
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod truncate {
    use super::*;

    pub(super) const AVAILABLE: bool = false;

    pub(super) fn write(_: &TcpStream, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Never called: outside Linux `MSG_TRUNC` means something else, so the bytes are copied.
    pub(super) fn poll(
        _: &TcpStream,
        _: &mut Context<'_>,
        _: &mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    async fn discard_all<T: AsyncRead + Unpin + 'static>(mut io: T) -> u64 {
        let mut sum = 0;
        while let Found::Bytes(bytes) = poll_fn(|cx| poll_discard(&mut io, cx)).await.unwrap() {
            sum += bytes as u64;
        }
        sum
    }

    async fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        (client.unwrap(), listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn every_byte_of_a_tcp_stream_is_counted() {
        let (mut client, server) = tcp_pair().await;
        let send = tokio::spawn(async move {
            client.write_all(&vec![7; 5_000_001]).await.unwrap();
        });
        assert_eq!(discard_all(server).await, 5_000_001);
        send.await.unwrap();
    }

    /// A stream that discards from another stream in its `poll_read`. A socket wrapper around TLS
    /// does so if another wrapper is beneath TLS.
    struct Nested(tokio::io::Repeat);

    impl AsyncRead for Nested {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let found = ready!(poll_discard(&mut self.0, cx))?;
            assert_eq!(found, Found::Bytes(CHUNK));
            buf.put_slice(b"one");
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn stream_that_discards_while_it_is_read_does_no_harm() {
        let mut nested = Nested(tokio::io::repeat(1));
        let found = poll_fn(|cx| poll_discard(&mut nested, cx)).await.unwrap();
        assert_eq!(found, Found::Bytes(3));
    }

    #[tokio::test]
    async fn any_other_stream_is_read() {
        let (mut client, server) = tokio::io::duplex(1000);
        let send = tokio::spawn(async move {
            client.write_all(&vec![7; 1_000_001]).await.unwrap();
        });
        assert_eq!(discard_all(server).await, 1_000_001);
        send.await.unwrap();
    }

    #[test]
    fn the_kernel_discards_for_tcp_sockets() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (_client, server) = tcp_pair().await;
            assert_eq!(truncating(&server).is_some(), cfg!(target_os = "linux"));
            assert!(truncating(&tokio::io::empty()).is_none());
        });
    }
}
