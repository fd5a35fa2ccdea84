use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h3::{
    error::Code,
    quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf},
};
use quinn::{ConnectionError, VarInt};

use super::{RecvStream, SendStream, error};

/// `H3_REQUEST_REJECTED` (RFC 9114 §8.1): the request was not processed, and may be repeated.
const REQUEST_REJECTED: VarInt = VarInt::from_u32(0x010b);

/// A connection of quinn for h3.
pub struct Connection {
    opener: Opener,
    requests: Next<(quinn::SendStream, quinn::RecvStream)>,
    received: Next<quinn::RecvStream>,
    rejecting: Rejecting,
}

/// A switch that makes a [`Connection`] reject all later requests.
///
/// `GOAWAY` names the first request that is not processed (RFC 9114 §5.2), and the client may send
/// that and later ones again. h3 0.0.8 would process the one that it names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rejecting(Arc<AtomicBool>);

impl Rejecting {
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Opens streams on a [`Connection`].
pub struct Opener {
    connection: quinn::Connection,
    both_ways: Next<(quinn::SendStream, quinn::RecvStream)>,
    one_way: Next<quinn::SendStream>,
}

impl Connection {
    /// Makes the connection of quinn one of h3's.
    #[must_use]
    pub fn new(connection: quinn::Connection) -> Self {
        Self {
            opener: Opener::new(connection),
            requests: Next::default(),
            received: Next::default(),
            rejecting: Rejecting::default(),
        }
    }

    pub(crate) fn rejecting(&self) -> Rejecting {
        self.rejecting.clone()
    }
}

impl Opener {
    fn new(connection: quinn::Connection) -> Self {
        Self {
            connection,
            both_ways: Next::default(),
            one_way: Next::default(),
        }
    }
}

impl<B: Buf> quic::Connection<B> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = Opener;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        let connection = &self.opener.connection;
        let accept = |connection: quinn::Connection| async move { connection.accept_uni().await };
        let accepted = ready!(self.received.poll(cx, connection, accept));
        Poll::Ready(accepted.map(RecvStream::new).map_err(error::connection))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream<B>, ConnectionErrorIncoming>> {
        let connection = &self.opener.connection;
        let accept = |connection: quinn::Connection| async move { connection.accept_bi().await };
        loop {
            let accepted = ready!(self.requests.poll(cx, connection, accept));
            match accepted {
                Ok((mut send, mut recv)) if self.rejecting.has_begun() => {
                    // It is an error if the client has ended these before.
                    let _ = send.reset(REQUEST_REJECTED);
                    let _ = recv.stop(REQUEST_REJECTED);
                }
                accepted => {
                    let accepted = accepted.map(BidiStream::new);
                    return Poll::Ready(accepted.map_err(error::connection));
                }
            }
        }
    }

    fn opener(&self) -> Opener {
        self.opener.clone()
    }
}

impl<B: Buf> quic::OpenStreams<B> for Connection {
    type BidiStream = BidiStream<B>;
    type SendStream = SendStream<B>;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream<B>, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SendStream<B>, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        quic::OpenStreams::<B>::close(&mut self.opener, code, reason);
    }
}

impl<B: Buf> quic::OpenStreams<B> for Opener {
    type BidiStream = BidiStream<B>;
    type SendStream = SendStream<B>;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream<B>, StreamErrorIncoming>> {
        let open = |connection: quinn::Connection| async move { connection.open_bi().await };
        let opened = ready!(self.both_ways.poll(cx, &self.connection, open));
        Poll::Ready(opened.map(BidiStream::new).map_err(error::lost))
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SendStream<B>, StreamErrorIncoming>> {
        let open = |connection: quinn::Connection| async move { connection.open_uni().await };
        let opened = ready!(self.one_way.poll(cx, &self.connection, open));
        Poll::Ready(opened.map(SendStream::new).map_err(error::lost))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        let code = VarInt::from_u64(code.value()).unwrap_or(VarInt::MAX);
        self.connection.close(code, reason);
    }
}

impl Clone for Opener {
    fn clone(&self) -> Self {
        Self::new(self.connection.clone())
    }
}

/// A request stream, both ways. A server has to [split](h3::quic::BidiStream::split) it when it has
/// read the head: until then, a drop tells the client that it may send the request again.
pub struct BidiStream<B: Buf> {
    send: SendStream<B>,
    recv: RecvStream,
}

impl<B: Buf> BidiStream<B> {
    fn new((send, recv): (quinn::SendStream, quinn::RecvStream)) -> Self {
        Self {
            send: SendStream::of_request(send),
            recv: RecvStream::of_request(recv),
        }
    }
}

impl<B: Buf> quic::BidiStream<B> for BidiStream<B> {
    type SendStream = SendStream<B>;
    type RecvStream = RecvStream;

    fn split(mut self) -> (SendStream<B>, RecvStream) {
        self.send.process();
        (self.send, self.recv)
    }
}

impl<B: Buf> quic::RecvStream for BidiStream<B> {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.recv.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}

impl<B: Buf> quic::SendStream<B> for BidiStream<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        self.send.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

/// The next stream of a connection, which is accepted or opened. The future is kept between polls:
/// it waits for its turn.
struct Next<T>(Option<Pin<Box<Begun<T>>>>);

type Begun<T> = dyn Future<Output = Result<T, ConnectionError>> + Send + Sync;

impl<T> Next<T> {
    fn poll<F>(
        &mut self,
        cx: &mut Context<'_>,
        connection: &quinn::Connection,
        begin: impl FnOnce(quinn::Connection) -> F,
    ) -> Poll<Result<T, ConnectionError>>
    where
        F: Future<Output = Result<T, ConnectionError>> + Send + Sync + 'static,
    {
        let next = self
            .0
            .get_or_insert_with(|| Box::pin(begin(connection.clone())));
        let polled = ready!(next.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(polled)
    }
}

impl<T> Default for Next<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connection = &self.opener.connection;
        f.debug_tuple("Connection").field(connection).finish()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Opener").field(&self.connection).finish()
    }
}

impl<B: Buf> fmt::Debug for BidiStream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BidiStream").field(&self.send).finish()
    }
}
