//! A script for a client of the comparison with stock, drawn from a seed.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use testkit::streams::{Client, Streams, Upload, clients, frames};

/// The limit of `/refused`, in bytes.
pub(crate) const LIMIT: usize = 100_000;

/// Handlers that read the body to its end before they respond.
const READERS: [&str; 2] = ["/all", "/long_read"];

/// One HTTP/1 connection with one upload, and possibly a request after it.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// The path names the handler.
    pub(crate) path: &'static str,
    pub(crate) version: Version,
    pub(crate) framing: Framing,
    /// The length of the body in bytes.
    pub(crate) length: usize,
    pub(crate) body: Body,
    pub(crate) expect: Expect,
    /// The length of each write in bytes, and the pause before it in milliseconds. `None` writes
    /// head and body in one call.
    pub(crate) writes: Option<(usize, u64)>,
    pub(crate) reads: Reads,
    pub(crate) then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http11,
    Http10,
    Http10KeepAlive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    ContentLength,
    /// Chunked, with this many bytes to a chunk.
    Chunked(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Whole,
    /// The client stops after half of the body and stays silent.
    Unfinished,
    /// A chunk size that is not a number follows the first half of the body.
    Malformed,
    /// The client sends half of the body, waits for a response, and sends the second half.
    Waits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Nothing,
    /// The client does not wait for the 100.
    Impatient,
    /// The client sends the body after a 100. Without one, it does not send it.
    Patient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    WhileWriting,
    AfterWriting,
    /// While it writes, in pieces of this many bytes, with a pause of 1 ms after each.
    Steadily(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    /// The client sends another request when the first response is whole.
    Next,
    /// The client sends another request directly behind the body.
    Pipelined,
}

/// The kind of scripts to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    All,
    /// Scripts whose clients wait for the response before they send the second half of the body.
    Waiting,
}

/// Draws the script with this number. The scripts of one seed are independent.
pub(crate) fn draw(kind: Kind, seed: u64, number: u64) -> Script {
    let mut script = drawn(&scripts(), seed, number);
    if kind == Kind::Waiting && script.length > 1 {
        script.body = Body::Waits;
    }
    script
}

/// Draws the streams with this number.
pub(crate) fn draw_streams(kind: Kind, seed: u64, number: u64) -> Streams {
    let mut streams = drawn(&prop::collection::vec(uploads(), 1..5), seed, number);
    // h2 resets a stream that ends short of its declared length, and drops the unwritten part of
    // the response. That part is written immediately, unless long responses hold the connection's
    // window.
    let holds_window = streams
        .iter()
        .any(|upload| upload.path.starts_with("/long"));
    for upload in &mut streams {
        if kind == Kind::Waiting {
            upload.client = Client::Waits;
        }
        if upload.client == Client::EndsShort && holds_window {
            upload.declares_length = false;
        }
    }
    streams
}

fn uploads() -> impl Strategy<Value = Upload> {
    let what = (paths(), lengths(), any::<bool>());
    (what, frames(), clients()).prop_map(|((path, length, declares_length), frame, client)| {
        Upload {
            path,
            length,
            declares_length,
            frame,
            client,
        }
    })
}

fn drawn<S: Strategy>(strategy: &S, seed: u64, number: u64) -> S::Value {
    let bytes: Vec<_> = [seed, number, 0, 0].map(u64::to_le_bytes).concat();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let tree = strategy.new_tree(&mut runner);
    tree.expect("nothing is rejected").current()
}

fn scripts() -> impl Strategy<Value = Script> {
    let version = prop_oneof![
        8 => Just(Version::Http11),
        1 => Just(Version::Http10),
        1 => Just(Version::Http10KeepAlive),
    ];
    let framing = prop_oneof![
        Just(Framing::ContentLength),
        (1..50_000usize).prop_map(Framing::Chunked),
    ];
    let body = prop_oneof![
        8 => Just(Body::Whole),
        1 => Just(Body::Unfinished),
        1 => Just(Body::Malformed),
        1 => Just(Body::Waits),
    ];
    let expect = prop_oneof![
        6 => Just(Expect::Nothing),
        1 => Just(Expect::Impatient),
        1 => Just(Expect::Patient),
    ];
    let writes = prop::option::of((1000..100_000usize, 0..3u64));
    let reads = prop_oneof![
        Just(Reads::WhileWriting),
        Just(Reads::AfterWriting),
        (16_384..65_536usize).prop_map(Reads::Steadily),
    ];
    let then = prop::sample::select(vec![Then::Nothing, Then::Next, Then::Pipelined]);
    let what = (paths(), version, framing, lengths(), body, expect);
    (what, (writes, reads, then)).prop_map(
        |((path, version, framing, length, body, expect), (writes, reads, then))| {
            let framing = match (version, framing) {
                (Version::Http11, Framing::Chunked(size)) => {
                    // A body has at most 2000 chunks.
                    Framing::Chunked(size.max(length / 2000))
                }
                _ => Framing::ContentLength,
            };
            let body = match (body, framing) {
                (Body::Malformed, Framing::ContentLength) => Body::Unfinished,
                _ if length < 2 => Body::Whole,
                _ => body,
            };
            let then = match body {
                Body::Whole | Body::Waits => then,
                // Another request would be read as a part of this body.
                Body::Unfinished | Body::Malformed => Then::Nothing,
            };
            // A client sends no expectation without content (RFC 9110 §10.1.1).
            let expect = if length == 0 { Expect::Nothing } else { expect };
            Script {
                path,
                version,
                framing,
                length,
                body,
                expect,
                writes,
                reads,
                then,
            }
        },
    )
}

fn paths() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "/all",
        "/unauthorized",
        "/ok",
        "/frame",
        "/hold",
        "/long",
        "/long_read",
        "/refused",
    ])
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![
        3 => prop::sample::select(vec![0, 1, 10, LIMIT, LIMIT + 1]),
        6 => 0..20_000usize,
        3 => 0..500_000usize,
        1 => 0..4_000_000usize,
    ]
}

impl Script {
    /// Returns whether delivery documents that it closes where stock keeps the connection: the
    /// client sends the body without a 100, and the handler does not ask for it.
    pub(crate) fn closes_by_design(&self) -> bool {
        self.expect == Expect::Impatient && !READERS.contains(&self.path)
    }

    pub(crate) fn head(&self) -> Vec<u8> {
        let framing = match self.framing {
            Framing::ContentLength => format!("Content-Length: {}\r\n", self.length),
            Framing::Chunked(_) => "Transfer-Encoding: chunked\r\n".to_owned(),
        };
        let expect = match self.expect {
            Expect::Nothing => "",
            Expect::Impatient | Expect::Patient => "Expect: 100-continue\r\n",
        };
        let (version, connection) = match self.version {
            Version::Http11 => ("1.1", ""),
            Version::Http10 => ("1.0", ""),
            Version::Http10KeepAlive => ("1.0", "Connection: keep-alive\r\n"),
        };
        let path = self.path;
        format!("POST {path} HTTP/{version}\r\nHost: test\r\n{connection}{framing}{expect}\r\n")
            .into()
    }

    /// Returns the body on the wire, up to the point where the client stops.
    pub(crate) fn body(&self) -> Vec<u8> {
        let sent = match self.body {
            Body::Whole | Body::Waits => self.length,
            Body::Unfinished | Body::Malformed => self.length / 2,
        };
        let Framing::Chunked(size) = self.framing else {
            return vec![b'0'; sent];
        };
        let mut body = Vec::new();
        let mut left = sent;
        while left > 0 {
            let size = size.min(left);
            body.extend_from_slice(format!("{size:x}\r\n").as_bytes());
            body.resize(body.len() + size, b'0');
            body.extend_from_slice(b"\r\n");
            left -= size;
        }
        match self.body {
            Body::Whole | Body::Waits => body.extend_from_slice(b"0\r\n\r\n"),
            Body::Malformed => body.extend_from_slice(b"xyz\r\n"),
            Body::Unfinished => {}
        }
        body
    }
}
