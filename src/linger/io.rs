use std::{
    any::type_name,
    fmt,
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    Linger,
    discard::{CHUNKS_PER_TURN, Found, poll_discard, write_past_readiness},
    gather::{GATHERED, gather},
    half_close::HalfCloseHold,
    handle::ClosingGuard,
    handoff::{HalfClosed, LingerHandoff, Owes, Written, poll_write_all},
    read_tracker::ReadTracker,
    task,
    tls_records::{TlsRecordTracker, is_alert},
};
use crate::{
    budget::{Bounds, Discarding, Stall, StopReason},
    shared::{connection::Connection, peer::Peer},
};

/// A socket wrapper that lets the client finish when the server closes the connection.
///
/// It forwards all reads and writes. Reads still pass after `poll_shutdown`, because upgraded
/// tunnels half-close and then read. If it is dropped before the client has closed, it passes the
/// socket to a task that lingers (see [`Linger`]).
///
/// hyper drops a connection without a shutdown in these cases:
///
/// - after a panic,
/// - after an error of the service or of a response body,
/// - after a header timeout,
/// - if a request asked for an upgrade and got none (JDK clients do that with each first request).
///
/// The connection lingers in these cases, too, with two exceptions. If nothing was written, there
/// is no response to protect. If the response is HTTP/1.0, it may end only with the connection, and
/// an aborted response must not look complete. In both cases the socket is closed without a linger.
///
/// Put it beneath TLS: late bytes are then discarded without decryption.
///
/// # Example
///
/// In a custom accept loop:
///
/// ```no_run
/// use hyper::{Request, body::Incoming, server::conn::http1};
/// use hyper_util::{rt::TokioIo, service::TowerToHyperService};
/// use tower_bodyguard::{Linger, LingerIo};
/// # use http_body_util::Empty;
/// # use http::Response;
/// # use bytes::Bytes;
///
/// # async fn run() -> std::io::Result<()> {
/// # let service = tower::service_fn(|_: Request<Incoming>| async {
/// #     Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new()))
/// # });
/// let linger = Linger::default();
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
/// loop {
///     let (socket, _) = listener.accept().await?;
///     let io = TokioIo::new(LingerIo::new(socket, &linger));
///     let service = TowerToHyperService::new(service.clone());
///     tokio::spawn(http1::Builder::new().serve_connection(io, service));
/// }
/// # }
/// ```
pub struct LingerIo<T> {
    /// `None` only once it has been dropped or taken out.
    io: Option<T>,
    linger: Linger,
    /// The function that lingers for a socket. It is a function pointer, so that `LingerIo` and
    /// every type around it need no trait bounds for the drop.
    hand_over: fn(LingerHandoff<T>),
    records: TlsRecordTracker,
    /// The state that delivery shares, if it is combined.
    tracker: Option<ReadTracker>,
    /// Bytes that may contain the client's `close_notify`, and are kept from hyper for now.
    held_end: Vec<u8>,
    /// The count of bytes that were discarded while the response was blocked on a full send buffer.
    /// Once it is set, reads yield nothing more.
    discarding: Option<Discarding>,
    stall: Stall,
    /// The time of the latest probe for room, while a write is blocked.
    probed: Option<std::time::Instant>,
    half_closed: HalfClosed,
    /// Set by a shutdown that leaves the half-close to the linger.
    hold: Option<HalfCloseHold>,
    /// The `close_notify` of the server's TLS, if the half-close waits. A client takes it for the
    /// end of the connection. It leaves before anything else that is written, and with a flush.
    close_notify: Vec<u8>,
    written: Written,
    /// Whether the client has closed its side, or is gone. It will send no more.
    peer_closed: bool,
    /// Whether a limit was reached before the response was out.
    is_cut: bool,
    /// Set when the sending side is closed.
    closing: Option<ClosingGuard>,
}

/// Returns whether a type of socket is a [`LingerIo`]. Compares the type's name, because any type
/// may be inside.
pub(crate) fn is_wrapped<T>() -> bool {
    let wrapper = type_name::<LingerIo<()>>().strip_suffix("()>");
    wrapper.is_some_and(|wrapper| type_name::<T>().starts_with(wrapper))
}

/// Panics if the sockets of a listener or a server are wrapped already.
#[track_caller]
pub(crate) fn assert_not_wrapped<T>() {
    assert!(
        !is_wrapped::<T>(),
        "these sockets are wrapped already, and would linger twice: pass the listener, or the \
         socket, itself"
    );
}

impl<T> LingerIo<T> {
    /// Wraps a socket, or anything that reads and writes.
    ///
    /// # Panics
    ///
    /// Panics on the first connection in a tokio runtime without timers, because a lingering close
    /// needs them. Panics if `io` is a `LingerIo` itself.
    #[track_caller]
    pub fn new(io: T, linger: &Linger) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        assert_not_wrapped::<T>();
        linger.check_socket::<T>();
        linger.check_timers();
        linger.make_room_for(&io);
        Self {
            io: Some(io),
            linger: linger.clone(),
            hand_over: task::linger,
            records: TlsRecordTracker::default(),
            tracker: None,
            held_end: Vec::new(),
            discarding: None,
            stall: Stall::default(),
            probed: None,
            half_closed: HalfClosed(false),
            hold: None,
            close_notify: Vec::new(),
            written: Written::Nothing,
            peer_closed: false,
            is_cut: false,
            closing: None,
        }
    }

    /// Adds a [`Connection`] to share with [`Delivery`](crate::delivery::Delivery).
    pub(crate) fn combined(self) -> Self
    where
        T: 'static,
    {
        self.combined_from(None)
    }

    /// Does the same as [`combined`](Self::combined), with a client's address that is known already.
    /// This saves a system call.
    pub(crate) fn combined_from(mut self, addr: Option<SocketAddr>) -> Self
    where
        T: 'static,
    {
        let connection = Connection::of(match addr {
            Some(addr) => self.linger.peer_at(addr),
            None => self.linger.peer_of(self.get_ref()),
        });
        self.tracker = Some(ReadTracker::new(Arc::new(connection)));
        self
    }

    /// Returns the connection that is shared with delivery.
    pub(crate) fn connection(&self) -> Option<&Arc<Connection>> {
        self.tracker.as_ref().map(ReadTracker::connection)
    }

    /// Returns a reference to the socket.
    #[expect(
        clippy::missing_panics_doc,
        reason = "the socket is there until the drop"
    )]
    pub fn get_ref(&self) -> &T {
        self.io
            .as_ref()
            .expect("the socket is there until the drop")
    }

    /// Returns a mutable reference to the socket, to set its options. `LingerIo` does not see what
    /// you read or write through it.
    #[expect(
        clippy::missing_panics_doc,
        reason = "the socket is there until the drop"
    )]
    pub fn get_mut(&mut self) -> &mut T {
        self.io
            .as_mut()
            .expect("the socket is there until the drop")
    }

    /// Returns the socket, which no longer lingers when it is closed.
    #[expect(
        clippy::missing_panics_doc,
        reason = "the socket is there until the drop"
    )]
    pub fn into_inner(mut self) -> T {
        self.io.take().expect("the socket is there until the drop")
    }
}

impl<T: Unpin> LingerIo<T> {
    fn socket(self: Pin<&mut Self>) -> Pin<&mut T> {
        Pin::new(Self::get_mut(self.get_mut()))
    }

    /// Records the bytes that hyper and TLS get.
    fn came(&mut self, bytes: &[u8]) {
        self.records.follow(bytes);
        let has_ended = self.records.may_have_ended();
        if let Some(tracker) = &mut self.tracker {
            tracker.came(bytes.len(), has_ended);
        }
    }

    /// While a response is held back, keeps from TLS a record that may be the client's
    /// `close_notify`, and all bytes after it. hyper drops a connection whose client closes its
    /// side before the response is ready.
    fn hold_end(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        if self.tracker.as_ref().is_some_and(ReadTracker::is_holding) {
            let came = &buf.filled()[before..];
            if let Some(end) = self.records.find_end(came) {
                self.held_end.extend_from_slice(&came[end..]);
                buf.set_filled(before + end);
            }
        }
    }

    /// Reads the held bytes once the response is no longer held back. Until then it wakes the task,
    /// so that hyper reads again.
    fn read_held_end(&mut self, cx: &Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.tracker.as_ref().is_some_and(ReadTracker::is_holding) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = self.held_end.len().min(buf.remaining());
        let bytes: Vec<u8> = self.held_end.drain(..length).collect();
        buf.put_slice(&bytes);
        self.came(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for LingerIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Bytes were discarded, so anything read from here on would be misparsed. No task needs
        // these bytes: the response says `Connection: close`, and the server closes the connection
        // when the response is out.
        if self.discarding.is_some() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if !self.held_end.is_empty() {
            return self.read_held_end(cx, buf);
        }
        let read = self.as_mut().socket().poll_read(cx, buf);
        match &read {
            // The part of a record that TLS has may belong to another request.
            Poll::Pending if self.records.is_within() => {}
            Poll::Pending => self.tracker.iter_mut().for_each(ReadTracker::found_nothing),
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                self.hold_end(buf, before);
                if buf.filled().len() == before {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                self.came(&buf.filled()[before..]);
            }
            Poll::Ready(Ok(())) if buf.remaining() > 0 => {
                self.peer_closed = true;
                // Waits a few polls at most. Then hyper has to read again.
                if self.tracker.as_mut().is_some_and(ReadTracker::defer_end) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            Poll::Ready(_) => {}
        }
        read
    }
}

impl<T: AsyncRead + Unpin + 'static> LingerIo<T> {
    /// Discards what the client sends while a write is blocked, if the service will not read it. A
    /// client that sends before it reads would otherwise block a response that is larger than the
    /// socket's buffers.
    ///
    /// # Errors
    ///
    /// Returns `TimedOut` if the client sends past a limit and does not read meanwhile.
    fn wait_to_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(tracker) = &mut self.tracker else {
            return Ok(());
        };
        tracker.stall(true);
        if tracker.is_cut() {
            return Err(self.cut(StopReason::Timeout));
        }
        if !tracker.is_closing() || self.peer_closed {
            return Ok(());
        }
        let Some(io) = &mut self.io else {
            return Ok(());
        };
        let now = Instant::now().into_std();
        for _ in 0..CHUNKS_PER_TURN {
            // The write reports an error of the socket.
            let Poll::Ready(Ok(found)) = poll_discard(io, cx) else {
                return Ok(());
            };
            let Found::Bytes(bytes) = found else {
                self.peer_closed = true;
                return Ok(());
            };
            let discarding = self.discarding.get_or_insert_with(|| Discarding::new(now));
            let bounds = Bounds::new(Duration::MAX, Duration::MAX, self.linger.bounds().bytes);
            if let Some(end) = discarding.received(bytes as u64, now, &bounds) {
                return Err(self.cut(end));
            }
            if self.stall.heard(now, self.linger.stall_timeout_now()) {
                let is_over = self.linger.delivery().tasks().is_over();
                return Err(self.cut(if is_over {
                    StopReason::Shutdown
                } else {
                    StopReason::Timeout
                }));
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Tries to write, although tokio takes the socket for not writable, if a write has been
    /// blocked for long. Linux reports room only when a third of the buffer is free
    /// (`sk_stream_is_writeable`). For a client that reads slowly from a buffer of 4 MiB, that may
    /// take longer than the stall timeout.
    fn probe(&mut self, begin: &[u8]) -> Option<usize> {
        self.tracker
            .as_ref()
            .filter(|tracker| tracker.is_stalled())?;
        let now = Instant::now().into_std();
        let probed = self.probed.get_or_insert(now);
        if now.saturating_duration_since(*probed) < self.linger.stall_timeout_now() / 8 {
            return None;
        }
        *probed = now;
        write_past_readiness(self.io.as_ref()?, begin)
    }

    fn poll_may_write(&self, cx: &Context<'_>) -> Poll<()> {
        match &self.tracker {
            Some(tracker) => tracker.poll_may_write(cx),
            None => Poll::Ready(()),
        }
    }

    /// Records that a limit was reached before the response was out. The connection does not linger
    /// then.
    fn cut(&mut self, end: StopReason) -> io::Error {
        if !std::mem::replace(&mut self.is_cut, true) {
            let nothing = Discarding::new(Instant::now().into_std());
            self.report(self.discarding.as_ref().unwrap_or(&nothing), end);
        }
        io::ErrorKind::TimedOut.into()
    }

    fn after_write(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<usize>>,
        begin: &[u8],
    ) -> Poll<io::Result<usize>> {
        match write {
            Poll::Pending => {
                if let Some(written) = self.probe(begin) {
                    return self.after_write(cx, Poll::Ready(Ok(written)), begin);
                }
                self.wait_to_write(cx)?;
            }
            Poll::Ready(Ok(_)) => {
                self.written = self.written.after(begin);
                if let Some(tracker) = &mut self.tracker {
                    // The next request may have begun meanwhile. hyper polls for its response
                    // before it flushes, and not again after that (`proto/h1/dispatch.rs`).
                    if tracker.wrote() {
                        cx.waker().wake_by_ref();
                    }
                }
                self.stall.progress();
                self.probed = None;
            }
            Poll::Ready(Err(_)) => {}
        }
        write
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> AsyncWrite for LingerIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_may_write(cx));
        if self.keep_close_notify(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(self.poll_write_close_notify(cx))?;
        let write = self.as_mut().socket().poll_write(cx, buf);
        self.after_write(cx, write, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_may_write(cx));
        if let [buf] = bufs {
            return self.poll_write(cx, buf);
        }
        ready!(self.poll_write_close_notify(cx))?;
        let mut buffer = [const { MaybeUninit::uninit() }; GATHERED];
        let mut buffer = ReadBuf::uninit(&mut buffer);
        if gather(bufs, &mut buffer) {
            let write = self.as_mut().socket().poll_write(cx, buffer.filled());
            return self.after_write(cx, write, buffer.filled());
        }
        let write = self.as_mut().socket().poll_write_vectored(cx, bufs);
        let begin = bufs.iter().find(|buf| !buf.is_empty());
        self.after_write(cx, write, begin.map_or(&[], |buf| buf))
    }

    fn is_write_vectored(&self) -> bool {
        self.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_close_notify(cx))?;
        self.socket().poll_flush(cx)
    }

    /// Flushes, then closes the sending side, or leaves that to the linger. Does nothing once that
    /// is done.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.half_closed.0 || self.hold.is_some() {
            return Poll::Ready(Ok(()));
        }
        if let Some(hold) = self.half_close_hold() {
            ready!(self.as_mut().socket().poll_flush(cx))?;
            self.hold = Some(hold);
            self.closing = Some(self.linger.closing_guard());
            return Poll::Ready(Ok(()));
        }
        ready!(self.as_mut().poll_flush(cx))?;
        match ready!(self.as_mut().socket().poll_shutdown(cx)) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => self.peer_closed = true,
            result => result?,
        }
        self.half_closed = HalfClosed(true);
        // Taken here and not in the drop, because `Linger::closed` may be called between the two.
        if self.owes() != Owes::Nothing {
            self.closing = Some(self.linger.closing_guard());
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> LingerIo<T> {
    /// Keeps a write that may be the `close_notify` of the server's TLS, if the half-close waits.
    /// TLS writes it alone, and shuts the socket down in the same turn. Other records of this
    /// length are flushed in the same turn.
    fn keep_close_notify(&mut self, buf: &[u8]) -> bool {
        let keeps = self.close_notify.is_empty()
            && self.records.may_be_tls()
            && is_alert(buf)
            && self.half_close_hold().is_some();
        if keeps {
            self.close_notify.extend_from_slice(buf);
        }
        keeps
    }

    fn poll_write_close_notify(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Some(io) => poll_write_all(io, cx, &mut self.close_notify),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<T> LingerIo<T> {
    /// Returns for what the half-close waits, if it waits at all. The response has to show by
    /// itself where it ends.
    fn half_close_hold(&self) -> Option<HalfCloseHold> {
        self.linger.half_close_timeout()?;
        let tracker = self.tracker.as_ref()?;
        tracker
            .half_close_hold()
            .filter(|_| !self.peer_closed && self.written == Written::Framed)
    }

    /// Counts and reports a linger that ended before the socket was closed.
    fn report(&self, discarding: &Discarding, end: StopReason) {
        self.linger.started();
        let connection = self.connection();
        let peer = connection.map_or_else(Peer::default, |connection| connection.peer());
        self.linger.ended(end, discarding, &peer);
    }

    /// Returns what the client may still send, and so whether the connection has to linger.
    fn owes(&self) -> Owes {
        let for_nothing = !self.half_closed.0 && self.written != Written::Framed;
        if self.peer_closed || self.is_cut || for_nothing {
            return Owes::Nothing;
        }
        // Only a TLS alert can be lost, and a client that waits for it is silent.
        if self.records.is_handshake() {
            return Owes::PerhapsAnother;
        }
        match &self.tracker {
            Some(tracker) if tracker.all_read() => match tracker.may_be_asked_again() {
                true => Owes::PerhapsAnother,
                false => Owes::Nothing,
            },
            _ => Owes::Anything,
        }
    }
}

impl<T> Drop for LingerIo<T> {
    fn drop(&mut self) {
        // Nothing more is written, so a drain must not wait for a write.
        if let Some(tracker) = &mut self.tracker {
            tracker.stall(false);
        }
        let owes = self.owes();
        if owes == Owes::Nothing {
            // The bytes that were discarded for the response have not been reported yet.
            if let Some(discarding) = self.discarding.take().filter(|_| !self.is_cut) {
                self.report(&discarding, StopReason::Completed);
            }
            return;
        }
        if let Some(io) = self.io.take() {
            let closing = self.closing.take();
            (self.hand_over)(LingerHandoff {
                io,
                peer: self.connection().map(|connection| connection.peer()),
                half_closed: self.half_closed,
                hold: self.hold,
                close_notify: std::mem::take(&mut self.close_notify),
                discarding: self.discarding.take(),
                owes,
                closing: closing.unwrap_or_else(|| self.linger.closing_guard()),
            });
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for LingerIo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LingerIo")
            .field("io", &self.io)
            .field("half_closed", &self.half_closed)
            .field("peer_closed", &self.peer_closed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::shared::connection::LeftBody;

    /// Returns a client, and the combined server side of a pipe that holds 64 bytes each way.
    fn combined(linger: &Linger) -> (DuplexStream, LingerIo<DuplexStream>) {
        let (client, server) = duplex(64);
        (client, LingerIo::new(server, linger).combined())
    }

    #[tokio::test]
    async fn half_a_record_may_be_another_request() {
        for (bytes, owes) in [
            (
                &b"\x16\x03\x01\0\x02hi\x17\x03\x03\0\x02hi"[..],
                Owes::PerhapsAnother,
            ),
            (
                b"\x16\x03\x01\0\x02hi\x17\x03\x03\0\x02hi\x17\x03\x03\0",
                Owes::Anything,
            ),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Owes::Anything),
        ] {
            let (mut client, mut server) = combined(&Linger::default());
            client.write_all(bytes).await.unwrap();
            let read = server.read(&mut [0; 64]).await.unwrap();
            assert_eq!(read, bytes.len());
            server.connection().unwrap().begin_bodiless();
            assert!(server.read(&mut [0; 64]).now_or_never().is_none());
            server.write_all(b"response").await.unwrap();
            assert_eq!(server.owes(), owes, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn handshake_that_failed_is_lingered_for_briefly() {
        let (mut client, mut server) = combined(&Linger::default());
        client.write_all(b"\x16\x03\x01\0\x02hi").await.unwrap();
        server.read_exact(&mut [0; 7]).await.unwrap();
        server.write_all(b"alert").await.unwrap();
        assert_eq!(server.owes(), Owes::PerhapsAnother);
    }

    /// A record that may be the server's `close_notify`, and one that is data.
    const ALERT: &[u8] = b"\x15\x03\x03\0\x02\x01\0";
    const DATA: &[u8] = b"\x17\x03\x03\0\x02hi";

    /// Returns a client, and a server over TLS whose response has been written.
    async fn over_tls(left: Option<LeftBody>) -> (DuplexStream, LingerIo<DuplexStream>) {
        let (mut client, mut server) = combined(&Linger::default());
        client.write_all(b"\x16\x03\x01\0\x02hi").await.unwrap();
        client.write_all(DATA).await.unwrap();
        server.read_exact(&mut [0; 14]).await.unwrap();
        let connection = server.connection().unwrap();
        connection.begin();
        match left {
            Some(left) => connection.close_leaving(left),
            None => connection.close(),
        }
        server.write_all(DATA).await.unwrap();
        client.read_exact(&mut [0; 7]).await.unwrap();
        (client, server)
    }

    #[tokio::test]
    async fn close_notify_leaves_with_the_half_close() {
        for left in [LeftBody::Declared(1000), LeftBody::Unknown] {
            let (mut client, mut server) = over_tls(Some(left)).await;
            server.write_all(ALERT).await.unwrap();
            server.shutdown().await.unwrap();
            assert!(client.read(&mut [0]).now_or_never().is_none());
            client.shutdown().await.unwrap();
            drop(server);
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, ALERT);
        }
    }

    #[tokio::test]
    async fn close_notify_leaves_immediately_if_the_half_close_does_not_wait() {
        let (mut client, mut server) = over_tls(None).await;
        server.write_all(ALERT).await.unwrap();
        server.shutdown().await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, ALERT);
    }

    #[tokio::test]
    async fn record_that_is_flushed_or_followed_is_not_kept() {
        let (mut client, mut server) = over_tls(Some(LeftBody::Unknown)).await;
        server.write_all(ALERT).await.unwrap();
        assert!(client.read(&mut [0]).now_or_never().is_none());
        server.flush().await.unwrap();
        client.read_exact(&mut [0; 7]).await.unwrap();
        for record in [ALERT, DATA, ALERT] {
            server.write_all(record).await.unwrap();
        }
        let mut sent = [0; 14];
        client.read_exact(&mut sent).await.unwrap();
        assert_eq!(sent, [ALERT, DATA].concat()[..]);
    }

    #[tokio::test]
    async fn response_that_ends_with_the_connection_is_ended_immediately() {
        let (mut client, mut server) = combined(&Linger::default());
        client.write_all(b"a request").await.unwrap();
        server.read_exact(&mut [0; 9]).await.unwrap();
        let connection = server.connection().unwrap();
        connection.begin();
        connection.close_leaving(LeftBody::Unknown);
        server.write_all(b"HTTP/1.0 413 \r\n\r\n").await.unwrap();
        server.shutdown().await.unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_closing_connection_discards_while_it_waits_to_write() {
        let (mut client, mut server) = combined(&Linger::default());
        server.connection().unwrap().close();
        let answer =
            tokio::spawn(async move { server.write_all(&[1; 1000]).await.map(|()| server) });
        client.write_all(&[0; 1000]).await.unwrap();
        client.read_exact(&mut [0; 1000]).await.unwrap();
        let mut server = answer.await.unwrap().unwrap();

        // Bytes after a discarded part would be misparsed.
        client.write_all(b"GET / HTTP/1.1").await.unwrap();
        assert!(server.read(&mut [0]).now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_goes_on_is_not_robbed() {
        let (mut client, mut server) = combined(&Linger::default());
        client.write_all(b"a request").await.unwrap();
        assert!(server.write_all(&[1; 1000]).now_or_never().is_none());
        let mut request = [0; 9];
        server.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"a request");
    }

    #[tokio::test(start_paused = true)]
    async fn the_bounds_count_from_the_responses_last_progress() {
        let (mut client, mut server) = combined(&Linger::default());
        server.connection().unwrap().close();
        let answer = tokio::spawn(async move { server.write_all(&[1; 1000]).await });
        // The client keeps sending, and reads a little every 20 s.
        for _ in 0..10 {
            client.write_all(&[0; 100]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(20)).await;
            client.read_exact(&mut [0; 10]).await.unwrap();
        }
        assert!(!answer.is_finished());
        // The client keeps sending, and no longer reads.
        while client.write_all(b".").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let error = answer.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
