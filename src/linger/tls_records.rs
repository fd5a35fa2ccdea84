//! Tracks the boundaries of a client's TLS records.

/// The type of the first TLS record (RFC 8446 §5.1). No HTTP method begins with this byte.
const HANDSHAKE: u8 = 22;

/// The type of the records that hold the client's data (RFC 8446 §5.1). In TLS 1.3, one of them
/// also holds the end of its handshake.
const APPLICATION_DATA: u8 = 23;

/// The type of alerts. In TLS 1.3 they have the type of application data, and are recognized by
/// their length (RFC 8446 §5.2): two bytes, one byte of type, and the cipher's tag. Two bytes of
/// data are taken for an alert, too.
const ALERT: u8 = 21;
const ENCRYPTED_ALERT: usize = 2 + 1 + 16;

/// The length of a record's header.
const HEAD: usize = 5;

fn length(head: [u8; HEAD]) -> usize {
    usize::from(u16::from_be_bytes([head[3], head[4]]))
}

/// Returns whether a record may be an alert, as `close_notify` is.
fn may_be_alert(head: [u8; HEAD]) -> bool {
    head[0] == ALERT || head[0] == APPLICATION_DATA && length(head) == ENCRYPTED_ALERT
}

/// Returns whether `bytes` are one record that may be an alert, and no more.
pub(super) fn is_alert(bytes: &[u8]) -> bool {
    let head = bytes.first_chunk::<HEAD>();
    head.is_some_and(|head| may_be_alert(*head) && bytes.len() == HEAD + length(*head))
}

/// The first bytes of a connection from a proxy that speaks the PROXY protocol, versions 1 and 2.
const PROXY_HEADS: [&[u8]; 2] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"];

/// A tracker that follows TLS records by their headers, which are not encrypted: a type, a version,
/// and two bytes of length. While a record is incomplete, TLS holds a part that hyper has not seen,
/// even if the socket has no bytes to read.
#[derive(Debug, Default)]
pub(super) enum TlsRecordTracker {
    /// Nothing has come.
    #[default]
    Unknown,
    /// The client does not speak TLS. Its bytes are not tracked.
    Plain,
    /// The connection begins with the header of a proxy, or may do so. TLS may follow that header,
    /// but is not tracked.
    Opaque,
    Tls {
        head: [u8; HEAD],
        known: usize,
        /// How many bytes of the record are still to come.
        left: usize,
        /// Whether the client has sent more than its part of the handshake.
        has_spoken: bool,
        /// Whether the latest record may be the client's last.
        has_ended: bool,
    },
}

impl TlsRecordTracker {
    fn begin(bytes: &[u8]) -> Self {
        // A header rarely arrives in parts. Other bytes that look like the start of one only cost
        // a lingering close.
        let is_proxy_head = |head: &&[u8]| bytes.starts_with(head) || head.starts_with(bytes);
        if PROXY_HEADS.iter().any(is_proxy_head) {
            return Self::Opaque;
        }
        match bytes[0] {
            HANDSHAKE => Self::Tls {
                head: [0; HEAD],
                known: 0,
                left: 0,
                has_spoken: false,
                has_ended: false,
            },
            _ => Self::Plain,
        }
    }

    /// Follows the bytes that have come.
    #[inline]
    pub(super) fn follow(&mut self, bytes: &[u8]) {
        match self {
            Self::Plain | Self::Opaque => {}
            Self::Unknown | Self::Tls { .. } => self.follow_records(bytes),
        }
    }

    fn follow_records(&mut self, mut bytes: &[u8]) {
        if let (Self::Unknown, false) = (&self, bytes.is_empty()) {
            *self = Self::begin(bytes);
        }
        let Self::Tls {
            head,
            known,
            left,
            has_spoken,
            has_ended,
        } = self
        else {
            return;
        };
        while !bytes.is_empty() {
            if *known < head.len() {
                head[*known] = bytes[0];
                *known += 1;
                bytes = &bytes[1..];
                *left = length(*head);
                *has_spoken |= head[0] == APPLICATION_DATA;
                *has_ended = *known == HEAD && may_be_alert(*head);
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

    /// Returns whether a part of a record is still to come. Returns `true` if that is not known.
    #[inline]
    pub(super) fn is_within(&self) -> bool {
        match self {
            Self::Tls { known, .. } => *known > 0,
            Self::Opaque => true,
            Self::Unknown | Self::Plain => false,
        }
    }

    /// Returns whether the latest record may be the client's `close_notify`.
    #[inline]
    pub(super) fn may_have_ended(&self) -> bool {
        matches!(self, Self::Tls { has_ended, .. } if *has_ended)
    }

    /// Finds the beginning of a record that may be the client's `close_notify`. Does not find a
    /// record if a part of its header has come before.
    pub(super) fn find_end(&self, bytes: &[u8]) -> Option<usize> {
        let Self::Tls { known, left, .. } = self else {
            return None;
        };
        let mut at = if *known == HEAD { *left } else { 0 };
        if 0 < *known && *known < HEAD {
            return None;
        }
        while let Some(head) = bytes.get(at..at + HEAD) {
            let head: [u8; HEAD] = head.try_into().ok()?;
            if may_be_alert(head) {
                return Some(at);
            }
            at += HEAD + length(head);
        }
        None
    }

    /// Returns whether the connection may be TLS.
    #[inline]
    pub(super) fn may_be_tls(&self) -> bool {
        matches!(self, Self::Tls { .. } | Self::Opaque)
    }

    /// Returns whether the TLS handshake has not ended, so that there was no request yet.
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
    fn end_is_found_by_type_and_by_length() {
        let hello = &b"\x16\x03\x01\0\x02hi"[..];
        let data = &b"\x17\x03\x03\0\x02hi"[..];
        let alerts = [
            b"\x15\x03\x03\0\x1a".to_vec(),
            [&b"\x17\x03\x03\0\x13"[..], &[0; 19]].concat(),
        ];
        for alert in &alerts {
            let mut records = TlsRecordTracker::default();
            records.follow(hello);
            assert_eq!(records.find_end(data), None);
            assert_eq!(records.find_end(&[data, alert].concat()), Some(data.len()));
            records.follow(&data[..6]);
            assert_eq!(records.find_end(&[&data[6..], alert].concat()), Some(1));
            records.follow(&data[6..]);
            assert!(!records.may_have_ended());
            records.follow(alert);
            assert!(records.may_have_ended());
        }
        let mut records = TlsRecordTracker::default();
        records.follow(hello);
        records.follow(&alerts[1]);
        records.follow(data);
        assert!(!records.may_have_ended(), "it was data");
        assert_eq!(TlsRecordTracker::Plain.find_end(&alerts[0]), None);
    }

    #[test]
    fn alert_is_one_whole_record() {
        let alert = [&b"\x17\x03\x03\0\x13"[..], &[0; 19]].concat();
        assert!(is_alert(&alert));
        assert!(is_alert(b"\x15\x03\x03\0\x02\x01\0"));
        assert!(!is_alert(&alert[..23]));
        assert!(!is_alert(&[&alert[..], b"."].concat()));
        assert!(!is_alert(b"\x17\x03\x03\0\x02hi"));
        assert!(!is_alert(b""));
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
