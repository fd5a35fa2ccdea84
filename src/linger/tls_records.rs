//! Where a client's bytes stand between the records of TLS.

/// The type of the first record of TLS (RFC 8446 §5.1), which no method of HTTP begins
/// with.
const HANDSHAKE: u8 = 22;

/// The type of the records that hold what the client has to say (RFC 8446 §5.1). In TLS 1.3 the
/// end of its handshake is in one, too.
const APPLICATION_DATA: u8 = 23;

/// How a connection begins whose proxy speaks the PROXY protocol, versions 1 and 2.
const PROXY_HEADS: [&[u8]; 2] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"];

/// Follows the records by their heads, which are in clear: a type, a version, and two
/// bytes of length. What TLS has of a record that has not come whole is in nobody's
/// hands yet, however quiet the socket is.
#[derive(Debug, Default)]
pub(super) enum TlsRecordTracker {
    /// Nothing has come.
    #[default]
    Unknown,
    /// What comes is no TLS, and needs no following.
    Plain,
    /// It begins with the head of a proxy, or may do so: TLS may follow it, and is not followed.
    Opaque,
    Tls {
        head: [u8; 5],
        known: usize,
        /// What is to come of the record.
        left: usize,
        /// The client has sent more than its part of the handshake.
        has_spoken: bool,
    },
}

impl TlsRecordTracker {
    fn begin(bytes: &[u8]) -> Self {
        // A head that came in parts is a rare thing, and to take another for it only costs a
        // lingering close.
        let is_proxys = |head: &&[u8]| bytes.starts_with(head) || head.starts_with(bytes);
        if PROXY_HEADS.iter().any(is_proxys) {
            return Self::Opaque;
        }
        match bytes[0] {
            HANDSHAKE => Self::Tls {
                head: [0; 5],
                known: 0,
                left: 0,
                has_spoken: false,
            },
            _ => Self::Plain,
        }
    }

    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        if let (Self::Unknown, false) = (&self, bytes.is_empty()) {
            *self = Self::begin(bytes);
        }
        let Self::Tls {
            head,
            known,
            left,
            has_spoken,
        } = self
        else {
            return;
        };
        while !bytes.is_empty() {
            if *known < head.len() {
                head[*known] = bytes[0];
                *known += 1;
                bytes = &bytes[1..];
                *left = usize::from(u16::from_be_bytes([head[3], head[4]]));
                *has_spoken |= head[0] == APPLICATION_DATA;
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

    /// Whether a part of a record is still to come, as far as that is known.
    pub(super) fn is_within(&self) -> bool {
        match self {
            Self::Tls { known, .. } => *known > 0,
            Self::Opaque => true,
            Self::Unknown | Self::Plain => false,
        }
    }

    /// Whether the handshake of TLS has not come to its end: there was no request yet.
    pub(super) fn is_handshake(&self) -> bool {
        matches!(self, Self::Tls { has_spoken, .. } if !has_spoken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_within(pieces: &[&[u8]]) -> bool {
        let mut records = TlsRecordTracker::default();
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

    #[test]
    fn proxy_head_leaves_nothing_known() {
        assert!(is_within(&[b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n"]));
        assert!(is_within(&[b"PRO", b"XY TCP4"]));
        assert!(is_within(&[b"\r\n\r\n\0\r\nQUIT\n!"]));
        assert!(!is_within(&[b"PROPFIND / HTTP/1.1"]));
        assert!(!is_within(&[b"POST / HTTP/1.1"]));
    }

    #[test]
    fn handshake_ends_with_application_data() {
        let mut records = TlsRecordTracker::default();
        assert!(!records.is_handshake());
        records.follow(b"\x16\x03\x01\0\x02hi\x14\x03\x03\0\x01\x01");
        assert!(records.is_handshake());
        records.follow(b"\x17\x03\x03\0\x02hi");
        assert!(!records.is_handshake());
    }
}
