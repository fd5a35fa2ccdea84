//! A client's actions as a value: drawn from a seed, printed on failure, and shrunk.

use proptest::{collection::vec, prelude::*};

/// The limit of both servers.
pub(crate) const LIMIT: usize = 300_000;

/// The default limit of a drain.
pub(crate) const MIB: usize = 1 << 20;

/// One connection with one upload, and what follows it.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) method: &'static str,
    pub(crate) framing: Framing,
    /// The length of the body in bytes.
    pub(crate) length: usize,
    pub(crate) expect: Expect,
    pub(crate) writes: Writes,
    pub(crate) reads: Reads,
    /// Whether the client closes its sending side when everything is written.
    pub(crate) half_close: bool,
    pub(crate) then: Then,
}

#[derive(Clone, Debug)]
pub(crate) enum Framing {
    ContentLength,
    Chunked {
        /// The sizes of the first chunks. All further chunks have the last of these sizes.
        sizes: Vec<usize>,
        /// The extension of the first chunks only, because hyper accepts at most 16 KiB of
        /// extensions.
        extension: &'static str,
        trailers: &'static str,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Nothing,
    /// The client expects a 100 and sends without waiting for it.
    Impatient,
    /// The client sends the body after a 100, and not at all without one.
    Patient,
}

/// How the bytes are split.
#[derive(Clone, Debug)]
pub(crate) struct Writes {
    /// The lengths of the first writes. The others have 64 KiB.
    pub(crate) first: Vec<usize>,
    /// Pauses: the number of the write that follows, and the milliseconds.
    pub(crate) pauses: Vec<(usize, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    AtOnce,
    /// The client reads when everything is written.
    Last,
    /// The client reads while it writes. It stops writing when it sees the head of an error
    /// response, as curl does.
    AndStops,
}

/// The client's next step after the upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The request has `Connection: close`.
    Close,
    /// The client closes.
    Nothing,
    /// Another request after the first response.
    Next,
    /// Another request in the same write.
    Pipelined,
}

pub(crate) fn scripts() -> impl Strategy<Value = Script> {
    let what = (
        prop::sample::select(vec!["POST", "PUT"]),
        framings(),
        lengths(),
        expects(),
    );
    let how = (writes(), reads(), prop::bool::weighted(0.2), thens());
    (what, how).prop_map(
        |((method, framing, length, expect), (writes, reads, half_close, then))| Script {
            method,
            framing,
            length,
            // A client sends no expectation without content (RFC 9110 §10.1.1).
            expect: if length > 0 { expect } else { Expect::Nothing },
            writes,
            reads,
            // A client that has closed its sending side cannot send another request.
            half_close: half_close && then != Then::Next,
            then,
        },
    )
}

fn framings() -> impl Strategy<Value = Framing> {
    let extension = prop::sample::select(vec!["", "", "", ";a", ";a=1", " ; name = \"a b\""]);
    let trailers = prop::sample::select(vec!["", "", "A: 1\r\n", "A: 1\r\nLong-One: two\r\n"]);
    let sizes = vec(
        prop_oneof![1..20usize, 1..5000usize, 1..100_000usize],
        1..20,
    );
    let chunked = (sizes, extension, trailers).prop_map(|(mut sizes, extension, trailers)| {
        // This limits the number of chunks.
        sizes.push(16 * 1024 + sizes[0]);
        Framing::Chunked {
            sizes,
            extension,
            trailers,
        }
    });
    prop_oneof![Just(Framing::ContentLength), chunked]
}

pub(crate) fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![
        20 => prop::sample::select(vec![0, 1, LIMIT - 1, LIMIT, LIMIT + 1]),
        20 => 0..2 * LIMIT,
        // Around the limit of the drain.
        10 => LIMIT + MIB - 10..LIMIT + MIB + 10,
        30 => 2 * LIMIT..8 * MIB,
        1 => Just(64 * MIB),
    ]
}

fn expects() -> impl Strategy<Value = Expect> {
    prop_oneof![
        6 => Just(Expect::Nothing),
        1 => Just(Expect::Impatient),
        1 => Just(Expect::Patient),
    ]
}

fn writes() -> impl Strategy<Value = Writes> {
    let length = prop_oneof![1..10usize, 1..2000usize, 1..300_000usize];
    let pause = (0..30usize, 1..5u64);
    (vec(length, 0..30), vec(pause, 0..4)).prop_map(|(first, pauses)| Writes { first, pauses })
}

fn reads() -> impl Strategy<Value = Reads> {
    prop_oneof![
        Just(Reads::AtOnce),
        Just(Reads::Last),
        Just(Reads::AndStops)
    ]
}

fn thens() -> impl Strategy<Value = Then> {
    let all = vec![Then::Close, Then::Nothing, Then::Next, Then::Pipelined];
    prop::sample::select(all)
}

impl Script {
    pub(crate) fn is_refused(&self) -> bool {
        self.length > LIMIT
    }

    pub(crate) fn head(&self) -> Vec<u8> {
        let framing = match &self.framing {
            Framing::ContentLength => format!("Content-Length: {}\r\n", self.length),
            Framing::Chunked { .. } => "Transfer-Encoding: chunked\r\n".to_owned(),
        };
        let expect = match self.expect {
            Expect::Nothing => "",
            Expect::Impatient | Expect::Patient => "Expect: 100-continue\r\n",
        };
        let close = match self.then {
            Then::Close => "Connection: close\r\n",
            _ => "",
        };
        let Self { method, .. } = self;
        format!("{method} /raw HTTP/1.1\r\nHost: test\r\n{framing}{expect}{close}\r\n").into()
    }

    /// Returns the body on the wire.
    pub(crate) fn body(&self) -> Vec<u8> {
        let Framing::Chunked {
            sizes,
            extension,
            trailers,
        } = &self.framing
        else {
            return vec![b'0'; self.length];
        };
        let mut body = Vec::with_capacity(self.length + self.length / 64);
        let mut left = self.length;
        let last = sizes.last().copied().unwrap_or(1);
        let with_extension = sizes.iter().map(|size| (*size, *extension));
        for (size, extension) in with_extension.chain(std::iter::repeat((last, ""))) {
            let size = size.min(left);
            if size == 0 {
                break;
            }
            body.extend_from_slice(format!("{size:x}{extension}\r\n").as_bytes());
            body.resize(body.len() + size, b'0');
            body.extend_from_slice(b"\r\n");
            left -= size;
        }
        body.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        body
    }
}
