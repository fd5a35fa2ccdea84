//! Clients that take turns with a server on one core.
//!
//! 32 clients send a request each, then read the responses. The server runs while they wait, and
//! they run while the server has nothing to do. So neither a sleeping core nor another thread on
//! the same core affects its CPU time. The server wakes up once for 32 requests. Each request costs
//! less then, and a difference between two servers is a larger share of it.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use crate::{
    Effort,
    estimate::Estimate,
    measure::{Runs, rounds_of},
    process::{Cores, on_core, take_turns},
    servers::Server,
};

/// The number of clients that send before one of them reads.
pub(crate) const CLIENTS: usize = 32;

/// The time in which the server finishes what it does after its last response.
const REST: Duration = Duration::from_millis(1);

/// The request that is sent repeatedly.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) request: Vec<u8>,
    pub(crate) status: &'static str,
    pub(crate) connections: Connections,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connections {
    /// One connection for as many requests as the server allows.
    Kept,
    /// A connection for each request. The server closes it, and the client reads to the end.
    Closed,
    /// A connection for each request. The client closes it after the response.
    Left,
}

/// The result of one round.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// The server's CPU time per response, in microseconds.
    cpu: f64,
    /// How often the server went to sleep, per response.
    sleeps: f64,
    tally: Tally,
}

/// The outcomes of requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: u64,
    /// Responses that did not arrive, or not whole.
    pub(crate) lost: u64,
    /// Connections that the server closed after a response.
    closed: u64,
}

/// The rounds of one server and one load: a list for each start of the server.
pub(crate) struct Rounds(Vec<Vec<Round>>);

impl Rounds {
    /// Returns the server's CPU time per response, in microseconds.
    pub(crate) fn cpu(&self) -> Estimate {
        let medians = self.0.iter().map(|rounds| {
            let cpu = rounds.iter().map(|round| round.cpu);
            Runs::new(cpu.collect()).median()
        });
        Estimate::of(&medians.collect::<Vec<_>>())
    }

    /// Returns the ratio of the CPU times. Both servers were started together, and had their rounds
    /// in turn.
    pub(crate) fn against(&self, other: &Self) -> Estimate {
        let starts = self.0.iter().zip(&other.0).map(|(one, other)| {
            let figures = |rounds: &[Round]| rounds.iter().map(|round| round.cpu).collect();
            let (one, other): (Vec<_>, Vec<_>) = (figures(one), figures(other));
            Runs::ratios(&one, &other).median()
        });
        Estimate::of_ratios(&starts.collect::<Vec<_>>())
    }

    fn all(&self) -> impl Iterator<Item = &Round> {
        self.0.iter().flatten()
    }

    fn sum(&self, count: impl Fn(&Tally) -> u64) -> f64 {
        self.all().map(|round| count(&round.tally)).sum::<u64>() as f64
    }

    /// Returns how often the server went to sleep, per response.
    pub(crate) fn sleeps(&self) -> f64 {
        Runs::new(self.all().map(|round| round.sleeps).collect()).median()
    }

    /// Returns the share of lost responses.
    pub(crate) fn lost(&self) -> f64 {
        let lost = self.sum(|tally| tally.lost);
        lost / (lost + self.sum(|tally| tally.answered))
    }

    /// Returns the share of responses after which a connection was closed instead of kept.
    pub(crate) fn closed(&self) -> f64 {
        self.sum(|tally| tally.closed) / self.sum(|tally| tally.answered)
    }
}

/// The number of requests for a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// How often the servers are started, because the memory layout of a process affects its
    /// speed. The confidence intervals are those of the starts.
    starts: usize,
    /// The rounds with the same processes.
    rounds: usize,
    /// The requests of a client in a round.
    each: usize,
}

impl Plan {
    /// Requests on new connections take several times as long, so there are half as many.
    fn of(effort: Effort, connections: Connections) -> Self {
        Self {
            starts: effort.of(32, 3),
            rounds: effort.of(64, 3),
            each: match connections {
                Connections::Kept => 32,
                Connections::Closed | Connections::Left => 16,
            },
        }
    }

    /// Describes the method for the page.
    pub(crate) fn in_words(effort: Effort) -> String {
        let Self {
            starts,
            rounds,
            each,
        } = Self::of(effort, Connections::Kept);
        let requests = (starts * rounds * each * CLIENTS) as f64 / 1e6;
        format!(
            "CPU time of the server's process, user and system, per request. {CLIENTS} clients \
             send a request each and then read, so the server and its clients take turns on one \
             core. On kept connections, each row has {requests:.1} million requests: {starts} starts \
             of the server, {rounds} rounds each, {} requests in a round. On new connections, a \
             round has half as many. Within a round, the rows take turns. A ratio is the geometric \
             mean, over the starts, of the median ratio within a round. It has its 95 % confidence \
             interval (Student's t). One interval in twenty does not contain the true ratio.",
            each * CLIENTS
        )
    }
}

/// Runs each load with its server, all of them in turn.
pub(crate) fn compare(
    effort: Effort,
    starts: &[&dyn Fn() -> Server],
    loads: &[(usize, Load)],
) -> Vec<Rounds> {
    let connections = loads[0].1.connections;
    let plan = Plan::of(effort, connections);
    let mut all: Vec<_> = loads.iter().map(|_| Rounds(Vec::new())).collect();
    for _ in 0..plan.starts {
        let servers: Vec<_> = starts.iter().map(|start| start()).collect();
        servers
            .iter()
            .for_each(|server| take_turns(Some(&server.process)));
        on_core(Cores::shared().map(|cores| cores.load), || {
            take_turns(None);
            let mut clients: Vec<_> = loads
                .iter()
                .map(|(server, load)| Clients::new(load, servers[*server].addr))
                .collect();
            let mut runs: Vec<_> = loads
                .iter()
                .zip(&mut clients)
                .map(|((server, _), clients)| {
                    let server = &servers[*server];
                    move || clients.round(server, plan.each)
                })
                .collect();
            // The first round of each warms it up.
            for run in &mut runs {
                run();
            }
            let mut runs: Vec<_> = runs
                .iter_mut()
                .map(|run| run as &mut dyn FnMut() -> Round)
                .collect();
            for (all, rounds) in all.iter_mut().zip(rounds_of(plan.rounds, &mut runs)) {
                all.0.push(rounds);
            }
        });
    }
    all
}

/// The clients of one server.
pub(crate) struct Clients<'a> {
    load: &'a Load,
    addr: SocketAddr,
    sockets: Vec<Option<TcpStream>>,
    /// The received part of a response.
    buffer: Vec<u8>,
    /// The head of the latest response. The next response is usually as long.
    last: Option<Head>,
    tally: Tally,
}

/// The length of a response, and whether it closes the connection.
#[derive(Clone, Copy)]
struct Head {
    /// Includes the body.
    length: usize,
    closes: bool,
}

impl<'a> Clients<'a> {
    pub(crate) fn new(load: &'a Load, addr: SocketAddr) -> Self {
        Self {
            load,
            addr,
            sockets: (0..CLIENTS).map(|_| None).collect(),
            buffer: Vec::with_capacity(4096),
            last: None,
            tally: Tally::default(),
        }
    }

    fn round(&mut self, server: &Server, each: usize) -> Round {
        thread::sleep(REST);
        let (cpu, sleeps) = (server.process.cpu(), server.process.sleeps());
        let tally = self.ask(each);
        thread::sleep(REST);
        let answered = tally.answered as f64;
        Round {
            cpu: (server.process.cpu() - cpu).as_secs_f64() * 1e6 / answered,
            sleeps: (server.process.sleeps() - sleeps) as f64 / answered,
            tally,
        }
    }

    /// Sends this many requests from each client, and reads their responses.
    pub(crate) fn ask(&mut self, each: usize) -> Tally {
        self.tally = Tally::default();
        for _ in 0..each {
            for client in 0..CLIENTS {
                if self.send(client).is_err() {
                    self.sockets[client] = None;
                }
            }
            for client in 0..CLIENTS {
                match self.receive(client) {
                    Ok(()) => self.tally.answered += 1,
                    Err(_) => {
                        self.sockets[client] = None;
                        self.tally.lost += 1;
                    }
                }
            }
        }
        self.tally
    }

    fn send(&mut self, client: usize) -> io::Result<()> {
        let socket = match &mut self.sockets[client] {
            Some(socket) => socket,
            none => {
                let socket = TcpStream::connect(self.addr)?;
                socket.set_nodelay(true)?;
                none.insert(socket)
            }
        };
        socket.write_all(&self.load.request)
    }

    fn receive(&mut self, client: usize) -> io::Result<()> {
        let Some(socket) = &mut self.sockets[client] else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        self.buffer.clear();
        let head = loop {
            read_some(socket, &mut self.buffer)?;
            match self.last {
                Some(last) if last.length == self.buffer.len() => break last,
                _ => {}
            }
            let head = Head::of(&self.buffer);
            if let Some(head) = head.filter(|head| head.length <= self.buffer.len()) {
                break head;
            }
        };
        let status = self.buffer.get(9..12).unwrap_or_default();
        let expected = self.load.status.as_bytes();
        assert_eq!(status, expected, "{}", self.buffer.escape_ascii());
        self.last = Some(head);
        match self.load.connections {
            Connections::Kept if !head.closes => {}
            Connections::Kept => {
                self.tally.closed += 1;
                self.sockets[client] = None;
            }
            Connections::Closed => {
                if socket.read(&mut [0])? != 0 {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                self.sockets[client] = None;
            }
            Connections::Left => self.sockets[client] = None,
        }
        Ok(())
    }
}

fn read_some(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 4096];
    match socket.read(&mut chunk)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => {
            buffer.extend_from_slice(&chunk[..read]);
            Ok(())
        }
    }
}

impl Head {
    /// Returns `None` if the head is incomplete.
    fn of(response: &[u8]) -> Option<Self> {
        let end = response.windows(4).position(|end| end == b"\r\n\r\n")?;
        let head = response[..end].to_ascii_lowercase();
        let head = str::from_utf8(&head).expect("it is ASCII");
        let value = |name: &str| {
            let mut headers = head.lines().filter_map(|line| line.split_once(':'));
            headers
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.trim())
        };
        let length = value("content-length").map_or(0, |length| length.parse().expect("a number"));
        Some(Self {
            length: end + 4 + length,
            closes: value("connection") == Some("close"),
        })
    }
}

/// Returns a request's bytes.
pub(crate) fn request(line: &str, headers: &[&str], body: usize) -> Vec<u8> {
    let mut request = format!("{line} HTTP/1.1\r\nhost: cost\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    let mut request = request.into_bytes();
    request.resize(request.len() + body, b'x');
    request
}
