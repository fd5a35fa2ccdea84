//! The frames of a response, counted below h3.
//!
//! h3 0.0.8 reports the end of a response at each empty `DATA` frame and at trailers, too, and does
//! not always notice that a frame is cut.

/// The type of a `DATA` frame (RFC 9114 §7.2.1).
const DATA: u64 = 0;

/// The frames of a stream, as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The type and the length of the next frame, as far as they have come.
    head: Vec<u8>,
    /// Missing bytes of the frame.
    missing: u64,
    /// Bytes of all `DATA` frames.
    data: u64,
    has_ended: bool,
}

impl Frames {
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.missing > 0 {
                let length = self.missing.min(bytes.len() as u64);
                self.missing -= length;
                bytes = &bytes[length as usize..];
                continue;
            }
            bytes = rest;
            self.head.push(*first);
            if let Some((kind, length)) = parse(&self.head) {
                self.head.clear();
                self.missing = length;
                if kind == DATA {
                    self.data = self.data.saturating_add(length);
                }
            }
        }
    }

    pub(super) fn end(&mut self) {
        self.has_ended = true;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns whether the end cuts a frame.
    pub(super) fn is_cut(&self) -> bool {
        self.has_ended && (self.missing > 0 || !self.head.is_empty())
    }

    /// Returns the length of the body.
    pub(super) fn data(&self) -> u64 {
        self.data
    }
}

/// Returns the type and the length of a frame.
fn parse(head: &[u8]) -> Option<(u64, u64)> {
    let (kind, rest) = integer(head)?;
    let (length, _) = integer(rest)?;
    Some((kind, length))
}

/// Reads an integer of variable length (RFC 9000 §16).
fn integer(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = 1 << (bytes.first()? >> 6);
    let (integer, rest) = bytes.split_at_checked(length)?;
    let all = integer
        .iter()
        .fold(0, |all, byte| (all << 8) | u64::from(*byte));
    // The first two bits are the length.
    Some((all & (u64::MAX >> (66 - 8 * length)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `HEADERS`, an empty `DATA` frame, one whose length has two bytes, and a frame of an unknown
    /// type of eight bytes.
    const STREAM: &[u8] = b"\x01\x02hh\0\0\0\x40\x05large\xc0\0\0\0\0\0\0\x21\x01x";

    #[test]
    fn frames_are_counted_in_pieces_of_any_length() {
        for size in 1..=STREAM.len() {
            let mut frames = Frames::default();
            for piece in STREAM.chunks(size) {
                frames.read(piece);
            }
            frames.end();
            assert_eq!((frames.data(), frames.is_cut()), (5, false), "{size}");
        }
    }

    #[test]
    fn frame_without_its_end_is_cut() {
        let whole = [0, 4, 6, 14, STREAM.len()];
        for length in 0..=STREAM.len() {
            let mut frames = Frames::default();
            frames.read(&STREAM[..length]);
            assert!(!frames.is_cut());
            frames.end();
            assert_eq!(frames.is_cut(), !whole.contains(&length), "{length}");
        }
    }

    #[test]
    fn integers_have_up_to_62_bits() {
        for (bytes, value) in [
            (&b"\x25"[..], 37),
            (b"\x7b\xbd", 15_293),
            (b"\x9d\x7f\x3e\x7d", 494_878_333),
            (b"\xc2\x19\x7c\x5e\xff\x14\xe8\x8c", 151_288_809_941_952_652),
        ] {
            assert_eq!(integer(bytes), Some((value, &b""[..])));
            assert_eq!(integer(&bytes[..bytes.len() - 1]), None);
        }
    }
}
