use std::io::IoSlice;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Buf;

/// The first byte of a gRPC-Web frame that holds uncompressed trailers.
pub(super) const TRAILERS: u8 = 0x80;

/// A parser that finds the message boundaries in a gRPC-Web body.
///
/// Each message is preceded by one byte for its kind and four bytes for its length. A service
/// may split messages into HTTP frames at any position.
#[derive(Debug)]
pub(super) struct Messages {
    /// The five bytes before a message, of which the first `known` have been received.
    prefix: [u8; 5],
    known: usize,
    /// The bytes of the message that are still missing.
    left: usize,
    has_ended: bool,
    /// Whether the position is unknown: a frame had too many pieces, or was not base64.
    is_lost: bool,
    text: Option<Group>,
}

/// A group of four base64 characters, which encode up to three bytes, in the text form.
#[derive(Debug, Default)]
struct Group {
    characters: [u8; 4],
    known: usize,
}

/// The position in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Between two messages.
    Boundary,
    /// Within a message, or at an unknown position.
    Within,
    /// In the trailers, or after them.
    End,
}

/// The number of pieces that hyper hands to the kernel in one call.
const PIECES: usize = 64;

impl Messages {
    pub(super) fn new(is_text: bool) -> Self {
        Self {
            prefix: [0; 5],
            known: 0,
            left: 0,
            has_ended: false,
            is_lost: false,
            text: is_text.then(Group::default),
        }
    }

    pub(super) fn at(&self) -> At {
        let within_group = self.text.as_ref().is_some_and(|group| group.known > 0);
        if self.has_ended {
            At::End
        } else if self.known > 0 || within_group || self.is_lost {
            At::Within
        } else {
            At::Boundary
        }
    }

    /// Records that the service has ended the call.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
    }

    pub(super) fn follow<D: Buf>(&mut self, data: &D) {
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let count = data.chunks_vectored(&mut pieces);
        let pieces = &pieces[..count];
        self.is_lost |= pieces.iter().map(|piece| piece.len()).sum::<usize>() < data.remaining();
        for piece in pieces {
            match &mut self.text {
                None => self.bytes(piece),
                Some(_) => piece
                    .iter()
                    .for_each(|character| self.character(*character)),
            }
        }
    }

    fn character(&mut self, character: u8) {
        let Some(group) = &mut self.text else {
            return;
        };
        group.characters[group.known] = character;
        group.known += 1;
        if group.known < 4 {
            return;
        }
        group.known = 0;
        let mut bytes = [0; 3];
        match STANDARD.decode_slice(group.characters, &mut bytes) {
            Ok(length) => self.bytes(&bytes[..length]),
            Err(_) => self.is_lost = true,
        }
    }

    fn bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.has_ended {
            if self.known < self.prefix.len() {
                self.prefix[self.known] = bytes[0];
                self.known += 1;
                bytes = &bytes[1..];
                self.has_ended = self.prefix[0] & TRAILERS != 0;
                let [_, length @ ..] = self.prefix;
                self.left = u32::from_be_bytes(length) as usize;
            } else {
                let part = self.left.min(bytes.len());
                self.left -= part;
                bytes = &bytes[part..];
            }
            if self.known == self.prefix.len() && self.left == 0 {
                self.known = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn at(is_text: bool, pieces: &[&[u8]]) -> At {
        let mut messages = Messages::new(is_text);
        for piece in pieces {
            messages.follow(&Bytes::copy_from_slice(piece));
        }
        messages.at()
    }

    #[test]
    fn where_a_body_stands() {
        assert_eq!(at(false, &[]), At::Boundary);
        assert_eq!(at(false, &[b"\0\0\0\0\x02", b"A"]), At::Within);
        assert_eq!(at(false, &[b"\0\0\0\0\x02", b"A", b"\x80"]), At::Boundary);
        assert_eq!(at(false, &[b"\0\0\0\0\0\x80\0"]), At::End);
        assert_eq!(at(true, &[b"AAAAAAA="]), At::Boundary);
        assert_eq!(at(true, &[b"AAAAAAA=gA"]), At::Within);
        assert_eq!(at(true, &[b"AAAAAAA=", b"gAAA"]), At::End);
        assert_eq!(at(true, &[b"????"]), At::Within);
    }

    proptest! {
        /// Splits the bytes at any position, in both forms.
        #[test]
        fn cuts_make_no_difference(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..5),
            ends in any::<bool>(),
            cuts in prop::collection::vec(1_usize..7, 1..10),
        ) {
            let frame = |kind: u8, message: &[u8]| {
                let length = (message.len() as u32).to_be_bytes();
                [&[kind][..], &length, message].concat()
            };
            let mut body: Vec<_> = messages.iter().flat_map(|message| frame(0, message)).collect();
            if ends {
                body.extend(frame(TRAILERS, b"grpc-status:0\r\n"));
            }
            let expected = if ends { At::End } else { At::Boundary };
            for is_text in [false, true] {
                let body = match is_text {
                    true => STANDARD.encode(&body).into_bytes(),
                    false => body.clone(),
                };
                let mut rest = &body[..];
                let mut pieces = Vec::new();
                for cut in cuts.iter().cycle() {
                    let (piece, after) = rest.split_at((*cut).min(rest.len()));
                    pieces.push(piece);
                    rest = after;
                    if rest.is_empty() {
                        break;
                    }
                }
                prop_assert_eq!(at(is_text, &pieces), expected);
            }
        }
    }
}
