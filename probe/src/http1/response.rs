//! Parses the responses of one HTTP/1 connection, byte by byte as they arrive. Pure.

use httparse::Status;

/// The most bytes that a head may have.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;

/// The head of a final response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Whether the connection ends after this response.
    pub(crate) says_close: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// Bytes of a body of known length that are missing.
    Length(u64),
    ChunkSize,
    /// Bytes of a chunk and its CRLF that are missing.
    Chunk(u64),
    Trailers,
    /// A body that ends with the connection.
    UntilEnd,
    /// The bytes are not HTTP.
    Malformed,
}

/// The responses that have arrived on one connection.
#[derive(Debug)]
pub(crate) struct Responses {
    /// Whether the first request was a HEAD, whose response has no body.
    to_head: bool,
    buffer: Vec<u8>,
    state: State,
    current: Option<Head>,
    whole: Vec<Head>,
    interim_100: bool,
    final_bytes: bool,
}

impl Responses {
    pub(crate) fn new(to_head: bool) -> Self {
        Self {
            to_head,
            buffer: Vec::new(),
            state: State::Head,
            current: None,
            whole: Vec::new(),
            interim_100: false,
            final_bytes: false,
        }
    }

    /// Returns the heads of the responses that are whole.
    pub(crate) fn whole(&self) -> &[Head] {
        &self.whole
    }

    /// Returns the head of the first final response, whole or not.
    pub(crate) fn first(&self) -> Option<Head> {
        self.whole.first().copied().or(self.current)
    }

    /// Returns whether a `100 Continue` has arrived.
    pub(crate) fn has_interim_100(&self) -> bool {
        self.interim_100
    }

    /// Returns whether a byte of a final response has arrived.
    pub(crate) fn has_final_bytes(&self) -> bool {
        self.final_bytes
    }

    /// Returns whether bytes came that are part of an incomplete response, or not HTTP at all.
    pub(crate) fn has_part(&self) -> bool {
        self.current.is_some() || !self.buffer.is_empty() || self.state == State::Malformed
    }

    /// Takes the next bytes of the connection.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        while self.step() {}
        if !self.buffer.is_empty() && !self.looks_interim() {
            self.final_bytes = true;
        }
    }

    /// Takes the end of the connection. It ends a body without a length.
    pub(crate) fn end(&mut self) {
        if self.state == State::UntilEnd {
            self.finish();
        }
    }

    /// Returns whether the buffer holds the beginning of a head that may be of an interim response.
    fn looks_interim(&self) -> bool {
        let interim = b"HTTP/1.1 1";
        let shared = self.buffer.len().min(interim.len());
        self.state == State::Head && self.buffer[..shared] == interim[..shared]
    }

    /// Parses one element. Returns `false` if more bytes are needed.
    fn step(&mut self) -> bool {
        match self.state {
            State::Head => self.head(),
            State::Length(0) => self.finish(),
            State::Length(left) => {
                let taken = self.take(left);
                self.state = State::Length(left - taken);
                taken > 0
            }
            State::ChunkSize => match httparse::parse_chunk_size(&self.buffer) {
                Ok(Status::Complete((line, size))) => {
                    self.buffer.drain(..line);
                    self.state = match size {
                        0 => State::Trailers,
                        size => State::Chunk(size.saturating_add(2)),
                    };
                    true
                }
                Ok(Status::Partial) => false,
                Err(_) => self.malformed(),
            },
            State::Chunk(0) => {
                self.state = State::ChunkSize;
                true
            }
            State::Chunk(left) => {
                let taken = self.take(left);
                self.state = State::Chunk(left - taken);
                taken > 0
            }
            State::Trailers => match self.buffer.windows(2).position(|two| two == b"\r\n") {
                Some(0) => {
                    self.buffer.drain(..2);
                    self.finish()
                }
                Some(end) => {
                    self.buffer.drain(..end + 2);
                    true
                }
                None => false,
            },
            State::UntilEnd | State::Malformed => {
                self.buffer.clear();
                false
            }
        }
    }

    fn head(&mut self) -> bool {
        if self.buffer.is_empty() {
            return false;
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut headers);
        let length = match parsed.parse(&self.buffer) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) if self.buffer.len() < MAX_HEAD => return false,
            _ => return self.malformed(),
        };
        let status = parsed.code.unwrap_or_default();
        if (100..200).contains(&status) && status != 101 {
            self.interim_100 |= status == 100;
            self.buffer.drain(..length);
            return true;
        }
        let field = |name: &str| {
            let mut all = parsed.headers.iter();
            let field = all.find(|field| field.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(field.value).ok().map(str::trim)
        };
        let connection = field("connection").unwrap_or_default().to_ascii_lowercase();
        let mut options = connection.split(',').map(str::trim);
        let says_close = match parsed.version {
            Some(0) => options.all(|option| option != "keep-alive"),
            _ => options.any(|option| option == "close"),
        };
        let is_chunked = field("transfer-encoding")
            .is_some_and(|codings| codings.to_ascii_lowercase().ends_with("chunked"));
        let declared = field("content-length").map(str::parse);
        let is_bodiless = matches!(status, 204 | 304) || (self.to_head && self.whole.is_empty());
        self.state = match declared {
            _ if is_bodiless => State::Length(0),
            _ if is_chunked => State::ChunkSize,
            Some(Ok(length)) => State::Length(length),
            Some(Err(_)) => State::Malformed,
            None => State::UntilEnd,
        };
        self.buffer.drain(..length);
        self.final_bytes = true;
        self.current = Some(Head { status, says_close });
        true
    }

    fn take(&mut self, most: u64) -> u64 {
        let taken = most.min(self.buffer.len() as u64);
        self.buffer.drain(..taken as usize);
        taken
    }

    fn finish(&mut self) -> bool {
        self.whole.extend(self.current.take());
        self.state = State::Head;
        true
    }

    fn malformed(&mut self) -> bool {
        self.state = State::Malformed;
        self.final_bytes = true;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses the bytes whole, and one by one.
    #[track_caller]
    fn parse(bytes: &[u8]) -> Responses {
        let mut at_once = Responses::new(false);
        at_once.feed(bytes);
        let mut by_byte = Responses::new(false);
        for byte in bytes {
            by_byte.feed(&[*byte]);
        }
        assert_eq!(at_once.whole(), by_byte.whole());
        assert_eq!(at_once.has_part(), by_byte.has_part());
        assert_eq!(at_once.has_final_bytes(), by_byte.has_final_bytes());
        at_once
    }

    const KEPT: Head = Head {
        status: 413,
        says_close: false,
    };
    const CLOSED: Head = Head {
        status: 413,
        says_close: true,
    };

    #[test]
    fn declared_length_ends_the_response() {
        let whole = parse(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(whole.whole(), [KEPT]);
        assert!(!whole.has_part());
        let part = parse(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nab");
        assert_eq!((part.whole(), part.first()), (&[][..], Some(KEPT)));
        assert!(part.has_part());
    }

    #[test]
    fn last_chunk_and_trailers_end_the_response() {
        let bytes = b"HTTP/1.1 413 X\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
            3\r\nabc\r\n0\r\nX: y\r\n\r\n";
        assert_eq!(parse(bytes).whole(), [CLOSED]);
        let part = parse(&bytes[..bytes.len() - 2]);
        assert!(part.whole().is_empty() && part.has_part());
    }

    #[test]
    fn end_of_the_connection_ends_a_body_without_length() {
        let mut open = parse(b"HTTP/1.0 413 X\r\n\r\nabc");
        assert!(open.whole().is_empty());
        open.end();
        assert_eq!(open.whole(), [CLOSED]);
    }

    #[test]
    fn end_of_the_connection_cuts_a_declared_length() {
        let mut open = parse(b"HTTP/1.1 413 X\r\nContent-Length: 9\r\n\r\nabc");
        open.end();
        assert!(open.whole().is_empty() && open.has_part());
    }

    #[test]
    fn http10_keeps_the_connection_only_if_it_says_so() {
        let kept = b"HTTP/1.0 413 X\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(parse(kept).whole(), [KEPT]);
        let closed = b"HTTP/1.0 413 X\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(parse(closed).whole(), [CLOSED]);
    }

    #[test]
    fn interim_responses_are_no_final_bytes() {
        let interim = parse(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 1");
        assert!(interim.has_interim_100() && !interim.has_final_bytes());
        let both = parse(b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 413 X\r\nContent-Length: 0\r\n\r\n");
        assert!(!both.has_interim_100() && both.has_final_bytes());
        assert_eq!(both.whole(), [KEPT]);
    }

    #[test]
    fn two_responses_are_counted() {
        let two = b"HTTP/1.1 413 X\r\nContent-Length: 1\r\n\r\naHTTP/1.1 204 Y\r\n\r\n";
        assert_eq!(parse(two).whole().len(), 2);
    }

    #[test]
    fn response_to_head_has_no_body() {
        let mut responses = Responses::new(true);
        responses.feed(b"HTTP/1.1 413 X\r\nContent-Length: 9\r\n\r\n");
        assert_eq!(responses.whole(), [KEPT]);
    }

    #[test]
    fn bytes_that_are_not_http_are_a_part() {
        for bytes in [
            &b"SSH-2.0-x\r\n"[..],
            b"HTTP/1.1 413 X\r\nContent-Length: x\r\n\r\n",
        ] {
            let responses = parse(bytes);
            assert!(responses.whole().is_empty() && responses.has_part());
        }
    }
}
