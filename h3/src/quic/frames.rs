//! Follows the frames of a stream (RFC 9114 §7.1), because of three faults of h3 0.0.8.
//!
//! If a stream ends inside of a `DATA` frame, h3 reports either the end of the body or an error,
//! depending on how the bytes arrive, and panics when it is asked for trailers then
//! (`h3::frame::FrameStream::poll_next`). It buffers a frame of any length, unless it is a `DATA`
//! frame, before it looks at it. And it takes an empty `DATA` frame for the end of the body, so that
//! the `DATA` frame after it is an error.

use std::{collections::VecDeque, fmt};

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
    /// The bytes of a frame's header that have arrived: its type and its length.
    header: Vec<u8>,
    /// How many bytes of the current frame are still to come.
    remaining: u64,
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

    /// Follows the next bytes of the stream, and adds to `passed` those that h3 may read: all except
    /// for empty `DATA` frames. A frame's header is held until it is complete.
    pub(super) fn received(
        &mut self,
        bytes: &Bytes,
        passed: &mut VecDeque<Bytes>,
    ) -> Result<(), FrameError> {
        // The first byte that is not passed yet, the next one, and the begin of the header.
        let (mut from, mut at, mut header_at) = (0, 0, 0);
        while at < bytes.len() && !self.is_raw {
            if self.remaining > 0 {
                let skipped = self.remaining.min((bytes.len() - at) as u64);
                self.remaining -= skipped;
                at += skipped as usize;
                continue;
            }
            if self.header.is_empty() {
                header_at = at;
            }
            self.header.push(bytes[at]);
            at += 1;
            let is_empty_data = match self.parse_header()? {
                Header::Incomplete => continue,
                Header::EmptyData => true,
                Header::Other => false,
            };
            let is_held = self.header.len() > at - header_at;
            if is_empty_data {
                push(passed, bytes.slice(from..header_at));
                from = at;
            } else if is_held {
                push(passed, Bytes::copy_from_slice(&self.header));
                from = at;
            }
            self.header.clear();
        }
        let end = match self.header.is_empty() {
            true => bytes.len(),
            false => header_at,
        };
        push(passed, bytes.slice(from..end));
        Ok(())
    }

    /// Checks that the stream does not end inside of a frame.
    pub(super) fn ended(&self) -> Result<(), FrameError> {
        match self.is_raw || (self.remaining == 0 && self.header.is_empty()) {
            true => Ok(()),
            false => Err(FrameError::Incomplete),
        }
    }

    /// Begins a frame if its header is complete.
    fn parse_header(&mut self) -> Result<Header, FrameError> {
        let Some((kind, length)) = varint(&self.header) else {
            return Ok(Header::Incomplete);
        };
        if self.begins_with_type {
            self.begins_with_type = false;
            self.is_raw = kind != CONTROL_STREAM;
            return Ok(Header::Other);
        }
        if kind == WEBTRANSPORT_STREAM {
            self.is_raw = true;
            return Ok(Header::Other);
        }
        let Some((length, _)) = varint(length) else {
            return Ok(Header::Incomplete);
        };
        if kind != DATA && length > MAX_FRAME {
            return Err(FrameError::TooLong { kind, length });
        }
        self.remaining = length;
        Ok(match (kind, length) {
            (DATA, 0) => Header::EmptyData,
            _ => Header::Other,
        })
    }
}

/// The header of a frame, as far as it has arrived.
enum Header {
    Incomplete,
    EmptyData,
    Other,
}

fn push(passed: &mut VecDeque<Bytes>, bytes: Bytes) {
    if !bytes.is_empty() {
        passed.push_back(bytes);
    }
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

    /// Returns the bytes that pass.
    fn pass<'a>(frames: &mut Frames, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut passed = VecDeque::new();
        for chunk in chunks {
            let received = frames.received(&Bytes::copy_from_slice(chunk), &mut passed);
            received.unwrap();
        }
        Vec::from(passed).concat()
    }

    fn received(frames: &mut Frames, bytes: &[u8]) -> Result<(), FrameError> {
        frames.received(&Bytes::copy_from_slice(bytes), &mut VecDeque::new())
    }

    #[test]
    fn empty_data_frames_do_not_pass() {
        let empty: [&[u8]; 4] = [&[0, 0], &[0, 0x40, 0], &[0x40, 0, 0x80, 0, 0, 0], &[]];
        // Twice, so that empty frames follow each other.
        let with_empty = empty
            .map(|empty| [empty, empty, &request()].concat())
            .concat();
        let without = request().repeat(4);
        for step in [1, 2, 3, 7, 100, 1000] {
            let mut frames = Frames::default();
            let passed = pass(&mut frames, with_empty.chunks(step));
            assert_eq!(
                (passed, frames.ended()),
                (without.clone(), Ok(())),
                "{step}"
            );
        }
    }

    #[test]
    fn whole_chunk_passes_without_a_copy() {
        let chunk = Bytes::from(request());
        let mut passed = VecDeque::new();
        Frames::default().received(&chunk, &mut passed).unwrap();
        assert_eq!(passed.len(), 1);
        assert_eq!(passed[0].as_ptr(), chunk.as_ptr());
    }

    #[test]
    fn stream_ends_only_between_frames() {
        let stream = request();
        let between = [0, 5, 9, stream.len()];
        for end in 0..=stream.len() {
            for step in [1, 2, 7, 1000] {
                let mut frames = Frames::default();
                let passed = pass(&mut frames, stream[..end].chunks(step));
                assert!(stream[..end].starts_with(&passed), "{end} {step}");
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
                received(&mut Frames::default(), &header(kind, limit)),
                Ok(())
            );
            let above = received(&mut Frames::default(), &header(kind, limit + 1));
            let kind = u64::from(kind);
            assert_eq!(above, Err(FrameError::TooLong { kind, length }));
        }
        // DATA has no limit here.
        assert_eq!(
            received(&mut Frames::default(), &header(0, limit + 1)),
            Ok(())
        );
    }

    #[test]
    fn only_the_control_stream_has_frames_among_unidirectional_ones() {
        let frame = [0x21, 0x80, 0x10, 0, 0];
        for (kind, has_frames) in [(0x00, true), (0x02, false), (0x03, false)] {
            let mut frames = Frames::of_unidirectional();
            received(&mut frames, &[kind]).unwrap();
            assert_eq!(received(&mut frames, &frame).is_err(), has_frames, "{kind}");
        }
    }

    #[test]
    fn webtransport_stream_may_end_anywhere() {
        let mut frames = Frames::default();
        let stream = [0x40, 0x41, 0, 0x01, 0xff, 0xff];
        assert_eq!(pass(&mut frames, stream.chunks(1)), stream);
        assert_eq!(frames.ended(), Ok(()));
    }
}
