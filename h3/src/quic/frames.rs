//! Follows the frames of a stream (RFC 9114 §7.1), because of these faults of h3 0.0.8
//! (`h3::frame::FrameStream`):
//!
//! - If a stream ends inside of a `DATA` frame, h3 reports either the end of the body or an error,
//!   depending on how the bytes arrive, and panics when it is asked for trailers then.
//! - It takes an empty `DATA` frame for the end of the body, so that the next one is an error.
//! - It buffers a frame of any length, unless it is a `DATA` frame, and decodes it anew with each
//!   part that arrives.
//! - It reads more bytes with each call, even if it has bytes left. So many short frames would fill
//!   its buffer, past every limit on the body and the windows of QUIC.
//!
//! So h3 gets the bytes in pieces, each of which it consumes with one call.

use std::{fmt, mem};

use bytes::Bytes;

/// The longest frame, except for `DATA` frames, which h3 passes on as they come. h3's own limit for
/// `HEADERS`, `max_field_section_size`, counts the fields after decompression, so that a longer
/// frame could pass only a limit that is longer than this.
const MAX_FRAME: u64 = 256 << 10;

const DATA: u64 = 0x00;
/// The type of the control stream (RFC 9114 §6.2.1). No other unidirectional stream has frames.
const CONTROL_STREAM: u64 = 0x00;
/// The begin of a WebTransport stream, which has no frames (draft-ietf-webtrans-http3 §4.3).
const WEBTRANSPORT_STREAM: u64 = 0x41;

/// The position in the frames of a stream.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// A frame's header, or a frame other than `DATA`, of which a part has arrived.
    partial: Vec<u8>,
    /// How many bytes of the current frame are still to come.
    remaining: u64,
    /// Whether the current frame is passed as a whole.
    is_whole: bool,
    /// Set while the stream's type has not arrived.
    begins_with_type: bool,
    /// Set once the stream has turned out to have no frames.
    is_raw: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum FrameError {
    Incomplete,
    TooLong { kind: u64, length: u64 },
}

impl Frames {
    /// Follows a unidirectional stream, which begins with its type.
    pub(super) fn of_unidirectional() -> Self {
        Self {
            begins_with_type: true,
            ..Self::default()
        }
    }

    /// Splits the next piece off the bytes that have arrived: the header of a `DATA` frame, a part
    /// of its payload, or a whole frame of another type. Leaves out empty `DATA` frames. Returns
    /// `None` if more bytes have to arrive.
    pub(super) fn split_off(&mut self, arrived: &mut Bytes) -> Result<Option<Bytes>, FrameError> {
        while !arrived.is_empty() {
            if self.is_raw {
                return Ok(Some(mem::take(arrived)));
            }
            if self.remaining > 0 {
                let part = self.remaining.min(arrived.len() as u64);
                self.remaining -= part;
                let part = arrived.split_to(part as usize);
                if !self.is_whole {
                    return Ok(Some(part));
                }
                self.partial.extend_from_slice(&part);
                if self.remaining == 0 {
                    return Ok(Some(mem::take(&mut self.partial).into()));
                }
                continue;
            }
            if let Some(piece) = self.begin(arrived)? {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// Checks that the stream does not end inside of a frame.
    pub(super) fn ended(&self) -> Result<(), FrameError> {
        match self.is_raw || (self.remaining == 0 && self.partial.is_empty()) {
            true => Ok(()),
            false => Err(FrameError::Incomplete),
        }
    }

    /// Begins a frame. Returns its header if that is a piece.
    fn begin(&mut self, arrived: &mut Bytes) -> Result<Option<Bytes>, FrameError> {
        let before = self.partial.len();
        let header = match before {
            0 => self.parse(arrived)?,
            _ => {
                // At most two integers of 8 bytes.
                let more = arrived.len().min(16);
                self.partial.extend_from_slice(&arrived[..more]);
                let parsed = self.parse(&self.partial)?;
                self.partial.truncate(before);
                parsed
            }
        };
        let Some(Header { length, kind }) = header else {
            self.partial.extend_from_slice(arrived);
            arrived.clear();
            return Ok(None);
        };
        if let HeaderKind::Other(payload) = kind {
            let whole = (length as u64).saturating_add(payload);
            if before == 0 && whole <= arrived.len() as u64 {
                return Ok(Some(arrived.split_to(whole as usize)));
            }
        }
        let rest = arrived.split_to(length - before);
        let header = match before {
            0 => rest,
            _ => {
                self.partial.extend_from_slice(&rest);
                mem::take(&mut self.partial).into()
            }
        };
        match kind {
            HeaderKind::StreamType { is_control } => {
                self.begins_with_type = false;
                self.is_raw = !is_control;
            }
            HeaderKind::WebTransport => self.is_raw = true,
            HeaderKind::Data(0) => return Ok(None),
            HeaderKind::Data(length) => {
                self.remaining = length;
                self.is_whole = false;
            }
            HeaderKind::Other(0) => {}
            HeaderKind::Other(length) => {
                self.remaining = length;
                self.is_whole = true;
                self.partial.extend_from_slice(&header);
                return Ok(None);
            }
        }
        Ok(Some(header))
    }

    /// Returns `None` if the header is incomplete.
    fn parse(&self, bytes: &[u8]) -> Result<Option<Header>, FrameError> {
        let Some((kind, after)) = varint(bytes) else {
            return Ok(None);
        };
        let of_kind = |after: &[u8], kind| {
            let length = bytes.len() - after.len();
            Ok(Some(Header { length, kind }))
        };
        if self.begins_with_type {
            let is_control = kind == CONTROL_STREAM;
            return of_kind(after, HeaderKind::StreamType { is_control });
        }
        if kind == WEBTRANSPORT_STREAM {
            return of_kind(after, HeaderKind::WebTransport);
        }
        let Some((length, after)) = varint(after) else {
            return Ok(None);
        };
        match kind {
            DATA => of_kind(after, HeaderKind::Data(length)),
            _ if length > MAX_FRAME => Err(FrameError::TooLong { kind, length }),
            _ => of_kind(after, HeaderKind::Other(length)),
        }
    }
}

/// The begin of a stream or of a frame.
struct Header {
    /// How many bytes it takes.
    length: usize,
    kind: HeaderKind,
}

enum HeaderKind {
    StreamType {
        is_control: bool,
    },
    WebTransport,
    /// The length of the payload.
    Data(u64),
    Other(u64),
}

/// Splits off an integer of variable length (RFC 9000 §16). Returns `None` if it is incomplete.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let (integer, rest) = bytes.split_at_checked(length)?;
    let begin = u64::from(first & 0x3f);
    let value = integer[1..]
        .iter()
        .fold(begin, |value, byte| value << 8 | u64::from(*byte));
    Some((value, rest))
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete => f.write_str("the request stream ended inside of a frame"),
            Self::TooLong { kind, length } => write!(
                f,
                "the frame of type {kind:#x} has {length} bytes, and the limit is {MAX_FRAME}: send \
                 a shorter one"
            ),
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `HEADERS` frame of 3 bytes, a frame of a reserved type, and `DATA` of 70 bytes, whose
    /// length takes two bytes.
    fn request() -> Vec<u8> {
        let mut stream = vec![0x01, 3, 1, 2, 3, 0x21, 2, 0, 0, 0x00, 0x40, 70];
        stream.extend([7; 70]);
        stream
    }

    /// Returns the pieces of a stream that arrives in these chunks.
    fn pieces<'a>(
        frames: &mut Frames,
        chunks: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<Bytes>, FrameError> {
        let mut pieces = Vec::new();
        for chunk in chunks {
            let mut arrived = Bytes::copy_from_slice(chunk);
            while let Some(piece) = frames.split_off(&mut arrived)? {
                pieces.push(piece);
            }
            assert!(arrived.is_empty());
        }
        Ok(pieces)
    }

    #[test]
    fn each_piece_is_a_header_or_a_part_of_data_or_a_whole_frame() {
        let stream = request();
        for step in 1..=stream.len() {
            let pieces = pieces(&mut Frames::default(), stream.chunks(step)).unwrap();
            assert_eq!(pieces.concat(), stream, "{step}");
            let [headers, reserved, header, payload @ ..] = &pieces[..] else {
                panic!("{pieces:?}");
            };
            let lengths = [headers, reserved, header].map(Bytes::len);
            assert_eq!(lengths, [5, 4, 3], "{step}");
            assert!(payload.iter().all(|part| part.len() <= step));
        }
    }

    #[test]
    fn empty_data_frames_do_not_pass() {
        let empty: [&[u8]; 4] = [&[0, 0], &[0, 0x40, 0], &[0x40, 0, 0x80, 0, 0, 0], &[]];
        // Twice, so that empty frames follow each other.
        let with_empty = empty.map(|empty| [empty, empty, &request()].concat());
        let without = request().repeat(4);
        for step in [1, 2, 3, 7, 100, 1000] {
            let mut frames = Frames::default();
            let pieces = pieces(&mut frames, with_empty.concat().chunks(step)).unwrap();
            assert_eq!(pieces.concat(), without, "{step}");
            assert_eq!(frames.ended(), Ok(()));
        }
    }

    #[test]
    fn chunk_passes_without_a_copy() {
        let chunk = Bytes::from(request());
        let (mut arrived, mut frames) = (chunk.clone(), Frames::default());
        let mut at = chunk.as_ptr() as usize;
        while let Some(piece) = frames.split_off(&mut arrived).unwrap() {
            assert_eq!(piece.as_ptr() as usize, at);
            at += piece.len();
        }
    }

    #[test]
    fn stream_ends_only_between_frames() {
        let stream = request();
        let between = [0, 5, 9, stream.len()];
        for end in 0..=stream.len() {
            for step in [1, 2, 7, 1000] {
                let mut frames = Frames::default();
                pieces(&mut frames, stream[..end].chunks(step)).unwrap();
                assert_eq!(
                    frames.ended().is_ok(),
                    between.contains(&end),
                    "{end} {step}"
                );
            }
        }
    }

    #[test]
    fn frame_above_the_limit_is_an_error_at_its_length() {
        let header = |kind: u8, length: u32| {
            let length = (length | 0x8000_0000).to_be_bytes();
            [&[kind], &length[..]].concat()
        };
        let limit = 256 << 10;
        let length = u64::from(limit) + 1;
        // HEADERS, SETTINGS, and a reserved type.
        for kind in [0x01, 0x04, 0x21] {
            assert_eq!(
                pieces(&mut Frames::default(), [&header(kind, limit)[..]]),
                Ok(Vec::new())
            );
            let above = pieces(&mut Frames::default(), [&header(kind, limit + 1)[..]]);
            let kind = u64::from(kind);
            assert_eq!(above, Err(FrameError::TooLong { kind, length }));
        }
        // DATA has no limit here.
        let data = header(0, limit + 1);
        let passed = pieces(&mut Frames::default(), [&data[..]]).unwrap();
        assert_eq!(passed, [data]);
    }

    #[test]
    fn only_the_control_stream_has_frames_among_unidirectional_ones() {
        let frame = [0x21, 0x80, 0x10, 0, 0];
        for (kind, has_frames) in [(0x00, true), (0x02, false), (0x03, false)] {
            let mut frames = Frames::of_unidirectional();
            pieces(&mut frames, [&[kind][..]]).unwrap();
            let passed = pieces(&mut frames, [&frame[..]]);
            assert_eq!(passed.is_err(), has_frames, "{kind}");
        }
    }

    #[test]
    fn webtransport_stream_may_end_anywhere() {
        let mut frames = Frames::default();
        let stream = [0x40, 0x41, 0, 0x01, 0xff, 0xff];
        let passed = pieces(&mut frames, stream.chunks(1)).unwrap();
        assert_eq!(passed.concat(), stream);
        assert_eq!(frames.ended(), Ok(()));
    }
}
