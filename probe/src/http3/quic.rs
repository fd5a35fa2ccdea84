//! The streams of h3-quinn for h3. They may be stopped at any time, and their frames are counted.
//!
//! h3-quinn 0.0.10 panics if a stream is stopped while a read is pending. h3 0.0.8 does that when a
//! malformed response follows another frame.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h3::{
    error::Code,
    quic::{
        self, BidiStream as _, ConnectionErrorIncoming, RecvStream as _, StreamErrorIncoming,
        StreamId, WriteBuf,
    },
};
use h3_quinn::SendStream;

use super::frames::Frames;

/// A connection for one request, whose streams may be stopped.
pub(super) struct Connection {
    connection: h3_quinn::Connection,
    response: SharedFrames,
}

impl Connection {
    /// `response` gets the frames of the response.
    pub(super) fn new(connection: quinn::Connection, response: &SharedFrames) -> Self {
        Self {
            connection: h3_quinn::Connection::new(connection),
            response: response.clone(),
        }
    }
}

/// The frames of a stream, shared with its reader.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedFrames(Arc<Mutex<Frames>>);

impl SharedFrames {
    pub(super) fn lock(&self) -> MutexGuard<'_, Frames> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl quic::Connection<Bytes> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = OpenStreams;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        let accepted = quic::Connection::<Bytes>::poll_accept_recv(&mut self.connection, cx);
        accepted.map_ok(|stream| RecvStream::new(stream, SharedFrames::default()))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, ConnectionErrorIncoming>> {
        let accepted = self.connection.poll_accept_bidi(cx);
        accepted.map_ok(|stream| BidiStream::new(stream, SharedFrames::default()))
    }

    fn opener(&self) -> OpenStreams {
        OpenStreams {
            streams: quic::Connection::<Bytes>::opener(&self.connection),
            response: self.response.clone(),
        }
    }
}

impl quic::OpenStreams<Bytes> for Connection {
    type BidiStream = BidiStream;
    type SendStream = SendStream<Bytes>;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        let opened = self.connection.poll_open_bidi(cx);
        opened.map_ok(|stream| BidiStream::new(stream, self.response.clone()))
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SendStream<Bytes>, StreamErrorIncoming>> {
        self.connection.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        quic::OpenStreams::<Bytes>::close(&mut self.connection, code, reason);
    }
}

/// Opens the streams of a connection.
pub(super) struct OpenStreams {
    streams: h3_quinn::OpenStreams,
    response: SharedFrames,
}

impl quic::OpenStreams<Bytes> for OpenStreams {
    type BidiStream = BidiStream;
    type SendStream = SendStream<Bytes>;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        let opened = self.streams.poll_open_bidi(cx);
        opened.map_ok(|stream| BidiStream::new(stream, self.response.clone()))
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SendStream<Bytes>, StreamErrorIncoming>> {
        self.streams.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        quic::OpenStreams::<Bytes>::close(&mut self.streams, code, reason);
    }
}

/// Both halves of a stream.
pub(super) struct BidiStream {
    send: SendStream<Bytes>,
    receive: RecvStream,
}

impl BidiStream {
    fn new(stream: h3_quinn::BidiStream<Bytes>, frames: SharedFrames) -> Self {
        let (send, receive) = stream.split();
        Self {
            send,
            receive: RecvStream::new(receive, frames),
        }
    }
}

impl quic::BidiStream<Bytes> for BidiStream {
    type SendStream = SendStream<Bytes>;
    type RecvStream = RecvStream;

    fn split(self) -> (SendStream<Bytes>, RecvStream) {
        (self.send, self.receive)
    }
}

impl quic::SendStream<Bytes> for BidiStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
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

impl quic::RecvStream for BidiStream {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.receive.poll_data(cx)
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.receive.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.receive.recv_id()
    }
}

/// The receiving half of a stream.
pub(super) struct RecvStream {
    stream: h3_quinn::RecvStream,
    id: StreamId,
    is_pending: bool,
    frames: SharedFrames,
}

impl RecvStream {
    fn new(stream: h3_quinn::RecvStream, frames: SharedFrames) -> Self {
        Self {
            id: stream.recv_id(),
            stream,
            is_pending: false,
            frames,
        }
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.is_pending = true;
        let data = ready!(self.stream.poll_data(cx));
        self.is_pending = false;
        match &data {
            Ok(Some(bytes)) => self.frames.lock().read(bytes),
            Ok(None) => self.frames.lock().end(),
            Err(_) => {}
        }
        Poll::Ready(data)
    }

    /// Stops the stream, unless a read is pending. quinn then stops it with 0 when it is dropped.
    fn stop_sending(&mut self, error_code: u64) {
        if !self.is_pending {
            self.stream.stop_sending(error_code);
        }
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}
