//! One client that takes everything it can get, and honest clients beside it.

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::{
    LARGE,
    client::{Ended, Framing, Outcome, PATIENCE, Response, SendFirst, read_to_end},
};

/// Connects from a given address of this machine.
pub fn connect_from(from: IpAddr, addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&addr.into())?;
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// An upload in pieces with pauses, as from a slow line.
#[derive(Clone, Copy, Debug)]
pub struct Paced {
    pub from: IpAddr,
    pub pieces: u64,
    pub piece: usize,
    pub pause: Duration,
}

impl Paced {
    /// Sends the whole body before it reads.
    pub fn to(self, addr: SocketAddr, path: &'static str) -> Outcome {
        let length = self.pieces * self.piece as u64;
        let upload = SendFirst::post(path, Framing::ContentLength, length);
        let upload = upload.header("Connection: close");
        let mut socket = connect_from(self.from, addr).expect("the server listens");
        // The first piece leaves with the head. Otherwise the server may find a newcomer that has
        // sent nothing, and evict it for the next one.
        let mut piece = upload.head().into_bytes();
        let mut write = || {
            for _ in 0..self.pieces {
                piece.resize(piece.len() + self.piece, 0);
                socket.write_all(&piece)?;
                piece.clear();
                thread::sleep(self.pause);
            }
            Ok(())
        };
        let write_error: Option<io::Error> = write().err();
        let (received, ended) = read_to_end(&mut socket);
        Outcome {
            write_error,
            received,
            ended,
        }
    }

    /// Runs this many clients concurrently. Returns how many got their response: no write failed,
    /// and the end was clean.
    pub fn delivered(self, clients: usize, addr: SocketAddr, path: &'static str) -> usize {
        let clients: Vec<_> = (0..clients)
            .map(|_| thread::spawn(move || self.to(addr, path)))
            .collect();
        let outcomes = clients.into_iter().map(|client| client.join().unwrap());
        outcomes.filter(is_delivered).count()
    }
}

fn is_delivered(outcome: &Outcome) -> bool {
    outcome.write_error.is_none()
        && matches!(outcome.ended, Ended::Cleanly)
        && Response::parse(&outcome.received).is_some()
}

/// Opens uploads that are refused, sends a little of each periodically, and never closes.
#[derive(Clone, Copy, Debug)]
pub struct Drip {
    pub from: IpAddr,
    /// How many uploads it opens at the start.
    pub first: usize,
    /// How many more uploads it opens per second.
    pub per_second: u32,
    /// How many bytes it sends on a connection, and how often.
    pub piece: usize,
    pub every: Duration,
}

/// A running [`Drip`]. Ends when it is dropped.
pub struct Attack {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drip {
    pub fn on(self, addr: SocketAddr, path: &'static str) -> Attack {
        self.on_from(vec![self.from], addr, path)
    }

    /// Runs it from several addresses in turn.
    pub fn on_from(self, from: Vec<IpAddr>, addr: SocketAddr, path: &'static str) -> Attack {
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || self.run(&from, addr, path, &is_over)
        });
        Attack {
            is_over,
            thread: Some(thread),
        }
    }

    fn run(self, from: &[IpAddr], addr: SocketAddr, path: &'static str, is_over: &AtomicBool) {
        const TICK: Duration = Duration::from_millis(5);
        let head = SendFirst::post(path, Framing::ContentLength, LARGE).head();
        let piece = vec![0; self.piece];
        let start = Instant::now();
        let mut opened = 0;
        let mut sockets: Vec<(TcpStream, Instant)> = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            let due = self.per_second as f64 * start.elapsed().as_secs_f64();
            while opened < self.first + due as usize {
                let from = from[opened % from.len()];
                opened += 1;
                let connected = connect_from(from, addr).and_then(|mut socket| {
                    socket.write_all(head.as_bytes())?;
                    Ok(socket)
                });
                sockets.extend(connected.map(|socket| (socket, Instant::now())));
            }
            sockets.retain_mut(|(socket, last)| {
                if last.elapsed() < self.every {
                    return true;
                }
                *last = Instant::now();
                socket.write_all(&piece).is_ok()
            });
            thread::sleep(TICK);
        }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
