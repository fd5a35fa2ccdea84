use std::{
    fmt,
    future::Future,
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h3::{
    error::Code,
    quic::{self, StreamErrorIncoming, StreamId},
};
use quinn::VarInt;

use super::{error, frames::Frames};

/// How many bytes are read at once. quinn joins packets up to the stream's window, and lets the
/// client send as many bytes as are read.
const MAX_CHUNK: usize = 64 << 10;

/// The receiving half of a stream.
///
/// If it is dropped before its end, the client is asked to stop with `H3_NO_ERROR`
/// (RFC 9114 §4.1).
pub struct RecvStream {
    stream: quinn::RecvStream,
    frames: Frames,
    /// The bytes that have arrived, and that h3 has not read yet.
    arrived: Bytes,
    /// Whether this is a request, which has to end between two frames.
    is_request: bool,
}

impl RecvStream {
    pub(super) fn new(stream: quinn::RecvStream) -> Self {
        Self {
            stream,
            frames: Frames::of_unidirectional(),
            arrived: Bytes::new(),
            is_request: false,
        }
    }

    pub(super) fn of_request(stream: quinn::RecvStream) -> Self {
        Self {
            stream,
            frames: Frames::default(),
            arrived: Bytes::new(),
            is_request: true,
        }
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let malformed = |error| StreamErrorIncoming::Unknown(Box::new(error));
        loop {
            let piece = self.frames.split_off(&mut self.arrived);
            if let Some(piece) = piece.map_err(malformed)? {
                return Poll::Ready(Ok(Some(piece)));
            }
            // The future has no state of its own: it may be made for each poll.
            let chunk = ready!(pin!(self.stream.read_chunk(MAX_CHUNK, true)).poll(cx));
            match chunk.map_err(error::read)? {
                Some(chunk) => self.arrived = chunk.bytes,
                None if self.is_request => {
                    return Poll::Ready(self.frames.ended().map(|()| None).map_err(malformed));
                }
                None => return Poll::Ready(Ok(None)),
            }
        }
    }

    fn stop_sending(&mut self, error_code: u64) {
        let code = VarInt::from_u64(error_code).unwrap_or(VarInt::MAX);
        // It is an error if the stream has ended, or was stopped before.
        let _ = self.stream.stop(code);
    }

    fn recv_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        quic::RecvStream::stop_sending(self, Code::H3_NO_ERROR.value());
    }
}

/// Returns h3's number of a stream. Both are integers of at most 62 bits.
pub(super) fn stream_id(id: quinn::StreamId) -> StreamId {
    let id = VarInt::from(id).into_inner();
    StreamId::try_from(id).expect("a stream's number has at most 62 bits")
}

impl fmt::Debug for RecvStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecvStream")
            .field(&self.stream.id())
            .finish()
    }
}
