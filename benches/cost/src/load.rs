//! Clients that send the next request as soon as they have a response.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    Effort,
    measure::{Runs, rounds_of},
    process::{Cores, on_core},
    servers::Server,
};

/// The number of concurrent clients. They keep a server busy all the time.
pub(crate) const CLIENTS: usize = 32;

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

/// The result of one run.
#[derive(Clone, Copy, Debug)]
struct Ran {
    per_second: f64,
    /// The server's CPU time per response, in microseconds.
    cpu: f64,
    /// The share of a core that the server used.
    busy: f64,
    answered: u64,
    /// Responses that did not arrive, or not whole.
    lost: u64,
    /// Connections that the server closed after a response.
    closed: u64,
}

/// The results of all runs with one server and one load, round by round.
pub(crate) struct Rounds(Vec<Ran>);

impl Rounds {
    fn figures(&self, figure: impl Fn(&Ran) -> f64) -> Vec<f64> {
        self.0.iter().map(figure).collect()
    }

    pub(crate) fn per_second(&self) -> Runs {
        Runs::new(self.figures(|ran| ran.per_second))
    }

    pub(crate) fn cpu(&self) -> Runs {
        Runs::new(self.figures(|ran| ran.cpu))
    }

    pub(crate) fn busy(&self) -> Runs {
        Runs::new(self.figures(|ran| ran.busy))
    }

    pub(crate) fn per_second_against(&self, other: &Self) -> Runs {
        let per_second = |ran: &Ran| ran.per_second;
        Runs::ratios(&self.figures(per_second), &other.figures(per_second))
    }

    pub(crate) fn cpu_against(&self, other: &Self) -> Runs {
        let cpu = |ran: &Ran| ran.cpu;
        Runs::ratios(&self.figures(cpu), &other.figures(cpu))
    }

    /// Returns the share of lost responses.
    pub(crate) fn lost(&self) -> f64 {
        let lost: u64 = self.0.iter().map(|ran| ran.lost).sum();
        let answered: u64 = self.0.iter().map(|ran| ran.answered).sum();
        lost as f64 / (lost + answered) as f64
    }

    /// Returns the share of responses after which a connection was closed instead of kept.
    pub(crate) fn closed(&self) -> f64 {
        let closed: u64 = self.0.iter().map(|ran| ran.closed).sum();
        let answered: u64 = self.0.iter().map(|ran| ran.answered).sum();
        closed as f64 / answered as f64
    }
}

/// Describes the runs for the page.
pub(crate) fn in_words(effort: Effort, cores: Option<Cores>) -> String {
    let Plan {
        sets,
        rounds,
        lasts,
    } = Plan::of(effort);
    format!(
        "{CLIENTS} clients send requests without pause; {}, both with one worker thread. {} rounds \
         of {} ms in turn, with the servers restarted {sets} times. A ratio is the median of the \
         ratios within each round.",
        Cores::in_words(cores),
        sets * rounds,
        lasts.as_millis(),
    )
}

struct Plan {
    /// How often the servers are restarted, because the memory layout of a process affects its
    /// speed.
    sets: usize,
    /// The rounds with the same processes.
    rounds: usize,
    lasts: Duration,
}

impl Plan {
    fn of(effort: Effort) -> Self {
        Self {
            sets: effort.of(6, 1),
            rounds: effort.of(20, 3),
            lasts: Duration::from_millis(effort.of(120, 100)),
        }
    }
}

/// Runs each load with its server, all of them in turn.
pub(crate) fn compare(
    effort: Effort,
    cores: Option<Cores>,
    starts: &[&dyn Fn() -> Server],
    loads: &[(usize, Load)],
) -> Vec<Rounds> {
    let Plan {
        sets,
        rounds,
        lasts,
    } = Plan::of(effort);
    let mut all: Vec<_> = loads.iter().map(|_| Rounds(Vec::new())).collect();
    for _ in 0..sets {
        let servers: Vec<_> = starts.iter().map(|start| start()).collect();
        let mut runs: Vec<_> = loads
            .iter()
            .map(|(server, load)| {
                let server = &servers[*server];
                move || load.run(server, lasts, cores)
            })
            .collect();
        // The first run of each warms it up.
        for run in &mut runs {
            run();
        }
        let mut runs: Vec<_> = runs
            .iter_mut()
            .map(|run| run as &mut dyn FnMut() -> Ran)
            .collect();
        for (all, ran) in all.iter_mut().zip(rounds_of(rounds, &mut runs)) {
            all.0.extend(ran);
        }
    }
    all
}

impl Load {
    fn run(&self, server: &Server, lasts: Duration, cores: Option<Cores>) -> Ran {
        on_core(cores.map(|cores| cores.load), || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_io().build().expect("a runtime");
            let before = server.process.cpu();
            let start = Instant::now();
            let until = start + lasts;
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| runtime.spawn(Client::new(self.clone(), server.addr).ask_until(until)))
                .collect();
            let (mut answered, mut lost, mut closed) = (0, 0, 0);
            for client in clients {
                let client = runtime.block_on(client).expect("no client panics");
                answered += client.answered;
                lost += client.lost;
                closed += client.closed;
            }
            let took = start.elapsed().as_secs_f64();
            let cpu = (server.process.cpu() - before).as_secs_f64();
            Ran {
                per_second: answered as f64 / took,
                cpu: cpu * 1e6 / answered as f64,
                busy: cpu / took,
                answered,
                lost,
                closed,
            }
        })
    }
}

struct Client {
    load: Load,
    addr: SocketAddr,
    socket: Option<TcpStream>,
    /// The received part of a response.
    buf: Vec<u8>,
    /// The head of the latest response. The next response is usually as long.
    last: Option<Head>,
    answered: u64,
    lost: u64,
    closed: u64,
}

/// The length of a response, and whether it closes the connection.
#[derive(Clone, Copy)]
struct Head {
    /// Includes the body.
    length: usize,
    closes: bool,
}

impl Client {
    fn new(load: Load, addr: SocketAddr) -> Self {
        Self {
            load,
            addr,
            socket: None,
            buf: Vec::with_capacity(4096),
            last: None,
            answered: 0,
            lost: 0,
            closed: 0,
        }
    }

    async fn ask_until(mut self, until: Instant) -> Self {
        while Instant::now() < until {
            match self.ask().await {
                Ok(()) => self.answered += 1,
                Err(_) => {
                    self.socket = None;
                    self.lost += 1;
                }
            }
        }
        self
    }

    async fn ask(&mut self) -> io::Result<()> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => {
                let socket = TcpStream::connect(self.addr).await?;
                socket.set_nodelay(true)?;
                none.insert(socket)
            }
        };
        socket.write_all(&self.load.request).await?;
        self.buf.clear();
        let head = loop {
            if socket.read_buf(&mut self.buf).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match self.last {
                Some(last) if last.length == self.buf.len() => break last,
                _ => {}
            }
            if let Some(head) = Head::of(&self.buf).filter(|head| head.length <= self.buf.len()) {
                break head;
            }
        };
        let status = self.buf.get(9..12).unwrap_or_default();
        assert_eq!(
            status,
            self.load.status.as_bytes(),
            "{}",
            self.buf.escape_ascii()
        );
        self.last = Some(head);
        match self.load.connections {
            Connections::Kept if !head.closes => {}
            Connections::Kept => {
                self.closed += 1;
                self.socket = None;
            }
            Connections::Closed => {
                self.buf.clear();
                if socket.read_buf(&mut self.buf).await? != 0 {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                self.socket = None;
            }
            Connections::Left => self.socket = None,
        }
        Ok(())
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
