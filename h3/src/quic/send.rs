use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::Buf;
use h3::{
    error::Code,
    quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf},
};
use quinn::{StoppedError, VarInt, WriteError};

use super::{error, recv::stream_id};

/// The sending half of a stream.
///
/// When it is dropped before its end:
///
/// - A request whose head has not been read is reset with `H3_REQUEST_REJECTED`, so that the client
///   may send it again.
/// - A response that was split off from its request is reset with `H3_INTERNAL_ERROR`. quinn would
///   end the stream properly, and a part would look like the whole.
pub struct SendStream<B: Buf> {
    stream: quinn::SendStream,
    is_request: bool,
    /// The code for a drop before the end. Without it, the drop is the end.
    aborts_with: Option<Code>,
    writing: Option<WriteBuf<B>>,
    /// Set once the end of the stream is queued.
    received: Option<Received>,
}

/// Completes when the client has the whole stream, or with the code with which it stopped it.
type Received = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

impl<B: Buf> SendStream<B> {
    pub(super) fn new(stream: quinn::SendStream) -> Self {
        Self {
            stream,
            is_request: false,
            aborts_with: None,
            writing: None,
            received: None,
        }
    }

    pub(super) fn of_request(stream: quinn::SendStream) -> Self {
        let mut stream = Self::new(stream);
        stream.is_request = true;
        stream.aborts_with = Some(Code::H3_REQUEST_REJECTED);
        stream
    }

    /// Notes that the head of the request has been read.
    pub(super) fn process(&mut self) {
        self.aborts_with = Some(Code::H3_INTERNAL_ERROR);
    }
}

impl<B: Buf> quic::SendStream<B> for SendStream<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if let Some(data) = &mut self.writing {
            while data.has_remaining() {
                let stream = Pin::new(&mut self.stream);
                let written = ready!(stream.poll_write(cx, data.chunk())).map_err(error::write)?;
                data.advance(written);
            }
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            let misuse = "`send_data` was called before the stream was ready".to_owned();
            return Err(StreamErrorIncoming::ConnectionErrorIncoming {
                connection_error: ConnectionErrorIncoming::InternalError(misuse),
            });
        }
        self.writing = Some(data.into());
        if self.aborts_with == Some(Code::H3_REQUEST_REJECTED) {
            // h3 itself refuses the head with 431. It does not end the stream.
            self.aborts_with = None;
        }
        Ok(())
    }

    /// Completes when the client has acknowledged everything, on a request stream. Within a packet, quinn writes
    /// `STOP_SENDING` before the data of streams, and a response that waits for the congestion
    /// window comes later still. So only then may the client be asked to stop, and the connection
    /// be closed.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        let received = match &mut self.received {
            Some(received) => received,
            None => {
                self.stream
                    .finish()
                    .map_err(|closed| StreamErrorIncoming::Unknown(Box::new(closed)))?;
                self.received.insert(Box::pin(self.stream.stopped()))
            }
        };
        if !self.is_request {
            // h3 reads no control frame before its grease stream has ended.
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(match ready!(received.as_mut().poll(cx)) {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(error::terminated(code)),
            Err(error) => Err(error::stopped(error)),
        })
    }

    fn reset(&mut self, reset_code: u64) {
        let code = VarInt::from_u64(reset_code).unwrap_or(VarInt::MAX);
        // It is an error if the stream has ended, or was reset before.
        let _ = self.stream.reset(code);
    }

    fn send_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl<B: Buf> Drop for SendStream<B> {
    fn drop(&mut self) {
        let Some(code) = self.aborts_with else { return };
        // quinn itself resets a stream that the client has stopped, with the client's code
        // (RFC 9000 §3.5).
        let cx = &mut Context::from_waker(Waker::noop());
        let probe = Pin::new(&mut self.stream).poll_write(cx, &[]);
        let is_stopped = matches!(probe, Poll::Ready(Err(WriteError::Stopped(_))));
        if self.received.is_none() && !is_stopped {
            quic::SendStream::<B>::reset(self, code.value());
        }
    }
}

impl<B: Buf> fmt::Debug for SendStream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendStream")
            .field(&self.stream.id())
            .finish()
    }
}
