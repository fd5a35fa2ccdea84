//! A script, played to a server, and what its client saw.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::script::{Expect, Reads, Script, Then};
use crate::support::client::{Response, connect};

const BLOCK: usize = 64 * 1024;

const NEXT: &[u8] = b"POST /raw HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello";

/// What became of it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) write_error: Option<io::Error>,
    /// The status of each answer that came whole, and how it begins.
    pub(crate) answers: Vec<Answer>,
    /// How it ended, where the server was to end it.
    pub(crate) end: Option<io::Result<()>>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// How many bytes of a body the server says that it has read.
    pub(crate) counted: Option<usize>,
    says_close: bool,
}

/// Plays it over a connection of its own.
pub(crate) fn play(script: &Script, addr: SocketAddr) -> Seen {
    let socket = connect(addr);
    // For the writes to be segments.
    socket.set_nodelay(true).expect("it is a TCP socket");
    let mut client = Client {
        socket: &socket,
        received: Vec::new(),
        answers: Vec::new(),
        leaves: script.reads == Reads::AndStops || script.expect == Expect::Patient,
    };
    let head = script.head();
    let told = match script.expect {
        Expect::Patient => {
            let written = write(&socket, script, &head, &AtomicBool::new(false));
            written.and_then(|()| client.is_told_to_go_on())
        }
        Expect::Nothing | Expect::Impatient => Ok(Some(head)),
    };
    let (write_error, end) = match told {
        Err(error) => (None, Some(Err(error))),
        Ok(None) => (None, client.read(1, false, &AtomicBool::new(false))),
        Ok(Some(mut bytes)) => {
            bytes.extend(script.body());
            if script.then == Then::Pipelined {
                bytes.extend_from_slice(NEXT);
            }
            let (write_error, end) = client.upload(script, &bytes);
            let is_kept = end.is_none() && write_error.is_none() && !client.has_left();
            if script.then == Then::Next && is_kept {
                let write_error = (&socket).write_all(NEXT).err();
                (write_error, client.read(2, false, &AtomicBool::new(false)))
            } else {
                (write_error, end)
            }
        }
    };
    Seen {
        write_error,
        answers: client.answers,
        end,
    }
}

struct Client<'a> {
    socket: &'a TcpStream,
    received: Vec<u8>,
    answers: Vec<Answer>,
    /// With an answer that refuses it has what it wants, and closes.
    leaves: bool,
}

impl Client<'_> {
    fn has_left(&self) -> bool {
        self.leaves && self.answers.first().is_some_and(Answer::refuses)
    }

    /// Writes, and reads meanwhile or afterwards.
    fn upload(
        &mut self,
        script: &Script,
        bytes: &[u8],
    ) -> (Option<io::Error>, Option<io::Result<()>>) {
        let socket = self.socket;
        let refused = AtomicBool::new(false);
        let never = AtomicBool::new(false);
        let stop = match script.reads {
            Reads::AndStops => &refused,
            Reads::AtOnce | Reads::Last => &never,
        };
        let send = || {
            let error = write(socket, script, bytes, stop).err();
            if script.half_close {
                // The other side may be gone by now.
                let _ = socket.shutdown(Shutdown::Write);
            }
            error
        };
        let answers = match script.then {
            Then::Pipelined => 2,
            _ => 1,
        };
        let to_the_end = script.half_close || script.then == Then::Close;
        match script.reads {
            Reads::Last => {
                let error = send();
                (error, self.read(answers, to_the_end, &refused))
            }
            Reads::AtOnce | Reads::AndStops => thread::scope(|scope| {
                let sending = scope.spawn(send);
                let end = self.read(answers, to_the_end, &refused);
                (sending.join().expect("it does not panic"), end)
            }),
        }
    }

    /// Until there are so many answers, or the server has ended the connection: how it
    /// did, where it was to do so.
    fn read(
        &mut self,
        answers: usize,
        to_the_end: bool,
        refused: &AtomicBool,
    ) -> Option<io::Result<()>> {
        let mut buffer = vec![0; BLOCK];
        loop {
            self.take_answers();
            if refuses(&self.received) || self.answers.iter().any(Answer::refuses) {
                refused.store(true, Ordering::Release);
            }
            if self.has_left() {
                return None;
            }
            let closes = self.answers.last().is_some_and(|answer| answer.says_close);
            if self.answers.len() >= answers && !closes && !to_the_end {
                return None;
            }
            match self.socket.read(&mut buffer) {
                Ok(0) => return Some(Ok(())),
                Ok(read) => self.received.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Moves what is whole from the bytes to the answers.
    fn take_answers(&mut self) {
        while let Some((response, rest)) = Response::parse(&self.received) {
            let rest = rest.to_vec();
            if response.status >= 200 {
                self.answers.push(Answer::of(&response));
            }
            self.received = rest;
        }
    }

    /// The client sends no more than its head before a 100 has come, and nothing after an
    /// answer: what to send before the body, if that is to be sent.
    fn is_told_to_go_on(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut byte = [0];
        while !self.received.ends_with(b"\r\n\r\n") {
            self.socket.read_exact(&mut byte)?;
            self.received.push(byte[0]);
        }
        if !self.received.starts_with(b"HTTP/1.1 100 ") {
            return Ok(None);
        }
        self.received.clear();
        Ok(Some(Vec::new()))
    }
}

/// Whether the head of an error is there.
fn refuses(received: &[u8]) -> bool {
    let is_error = received.starts_with(b"HTTP/1.1 4") || received.starts_with(b"HTTP/1.1 5");
    is_error && received.windows(4).any(|four| four == b"\r\n\r\n")
}

impl Answer {
    fn of(response: &Response) -> Self {
        let words = response.body.split_whitespace();
        Self {
            status: response.status,
            counted: words.filter_map(|word| word.parse().ok()).next(),
            says_close: response
                .header("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("close")),
        }
    }

    fn refuses(&self) -> bool {
        self.status >= 400
    }
}

fn write(
    mut socket: &TcpStream,
    script: &Script,
    bytes: &[u8],
    stop: &AtomicBool,
) -> io::Result<()> {
    let writes = &script.writes;
    let mut rest = bytes;
    let mut lengths = writes.first.iter().copied();
    let mut number = 0;
    while !rest.is_empty() {
        for (_, pause) in writes.pauses.iter().filter(|(before, _)| *before == number) {
            thread::sleep(Duration::from_millis(*pause));
        }
        if stop.load(Ordering::Acquire) {
            return Ok(());
        }
        let length = lengths.next().unwrap_or(BLOCK).min(rest.len());
        socket.write_all(&rest[..length])?;
        rest = &rest[length..];
        number += 1;
    }
    Ok(())
}
