//! Where a client's bytes stand between the records of TLS.

/// The type of the first record of TLS (RFC 8446 §5.1), which no method of HTTP begins
/// with.
const HANDSHAKE: u8 = 22;

/// Follows the records by their heads, which are in clear: a type, a version, and two
/// bytes of length. What TLS has of a record that has not come whole is in nobody's
/// hands yet, however quiet the socket is.
#[derive(Debug, Default)]
pub(super) enum Records {
    /// Nothing has come.
    #[default]
    Unknown,
    /// What comes is no TLS, and needs no following.
    Plain,
    Tls {
        head: [u8; 5],
        known: usize,
        /// What is to come of the record.
        left: usize,
    },
}

impl Records {
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        if let (Self::Unknown, Some(first)) = (&self, bytes.first()) {
            *self = match *first {
                HANDSHAKE => Self::Tls {
                    head: [0; 5],
                    known: 0,
                    left: 0,
                },
                _ => Self::Plain,
            };
        }
        let Self::Tls { head, known, left } = self else {
            return;
        };
        while !bytes.is_empty() {
            if *known < head.len() {
                head[*known] = bytes[0];
                *known += 1;
                bytes = &bytes[1..];
                *left = usize::from(u16::from_be_bytes([head[3], head[4]]));
            } else {
                let part = bytes.len().min(*left);
                *left -= part;
                bytes = &bytes[part..];
            }
            if *known == head.len() && *left == 0 {
                *known = 0;
            }
        }
    }

    /// Whether a part of a record is still to come.
    pub(super) fn is_within(&self) -> bool {
        matches!(self, Self::Tls { known, .. } if *known > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_within(pieces: &[&[u8]]) -> bool {
        let mut records = Records::default();
        pieces.iter().for_each(|piece| records.follow(piece));
        records.is_within()
    }

    #[test]
    fn where_the_bytes_stand() {
        let hello = b"\x16\x03\x01\0\x02hi";
        assert!(!is_within(&[]));
        assert!(!is_within(&[hello]));
        assert!(is_within(&[hello, b"\x17"]));
        assert!(is_within(&[hello, b"\x17\x03\x03\0\x02h"]));
        assert!(!is_within(&[hello, b"\x17\x03\x03\0\x02h", b"i"]));
        assert!(!is_within(&[b"GET / HTTP/1.1"]));
        let whole = [&hello[..], b"\x17\x03\x03\0\0\x17\x03\x03\0\x01."].concat();
        for cut in 0..whole.len() {
            let (one, other) = whole.split_at(cut);
            assert!(!is_within(&[one, other]), "cut at {cut}");
        }
    }
}
