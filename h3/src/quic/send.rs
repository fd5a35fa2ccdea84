use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{StoppedError, VarInt};

use super::{error, recv::stream_id};

/// The sending half of a stream.
pub struct SendStream<B: Buf> {
    stream: quinn::SendStream,
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
            writing: None,
            received: None,
        }
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
        Ok(())
    }

    /// Completes when the client has acknowledged everything. Within a packet, quinn writes
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

impl<B: Buf> fmt::Debug for SendStream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendStream")
            .field(&self.stream.id())
            .finish()
    }
}
