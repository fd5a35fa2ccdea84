//! How long other clients wait for their responses while refused clients keep sending.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use nix::unistd::Pid;
use socket2::SockRef;

use crate::{
    Effort,
    load::request,
    measure::{Runs, rounds_of},
    process::{Cores, Process, all_descriptors, on_core},
    report::{Section, Target},
    servers::Server,
};

/// The number of clients that keep sending.
const LINGERING: usize = 1000;

/// Their total rate, in bytes per second.
const PACE: u64 = 500_000_000;

/// The bytes of one write of a client.
const CHUNK: usize = 64 << 10;

/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(1);

/// The activity of the refused clients in the meantime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storm {
    None,
    Silent,
    Paced,
    Full,
}

impl Storm {
    const ALL: [Self; 4] = [Self::None, Self::Silent, Self::Paced, Self::Full];

    const fn in_words(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Silent => "1 000, silent",
            Self::Paced => "1 000, 500 MB/s in total",
            Self::Full => "1 000, at full rate",
        }
    }

    /// Returns the name as an argument.
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Silent => "silent",
            Self::Paced => "paced",
            Self::Full => "full",
        }
    }
}

/// The figures of one run, in seconds.
struct Seen {
    fresh: Vec<f64>,
    kept: Vec<f64>,
    /// The rate of the refused clients, in bytes per second.
    pace: f64,
}

/// Selects the times of one kind of connection.
type Times = fn(&Seen) -> &[f64];

pub(crate) fn measure(effort: Effort) -> Section {
    let cores = Cores::find();
    let server = Server::lingering(cores);
    let probes = effort.of(1000, 50);
    let rounds = effort.of(9, 2);
    // Waking a sleeping core takes as long as a response. A server that discards never sleeps. The
    // core is kept awake in all cases, so that this is no advantage.
    let _awake = cores.map(|cores| {
        let mut command = yielding(Some(cores.server));
        Process::of(
            command
                .args(["client", "awake"])
                .spawn()
                .expect("it starts"),
        )
    });
    let mut runs = Storm::ALL.map(|storm| {
        let server = &server;
        move || run(server, storm, probes, cores)
    });
    let [a, b, c, d] = &mut runs;
    let seen = rounds_of(rounds, &mut [a, b, c, d]);

    let mut rows = Vec::new();
    let mut targets = Vec::new();
    let kinds: [(&str, Times); 2] = [("fresh", |seen| &seen.fresh), ("kept", |seen| &seen.kept)];
    for (kind, of) in kinds {
        let quantiles = |seen: &[Seen], at: f64| -> Vec<f64> {
            seen.iter().map(|seen| quantile(of(seen), at)).collect()
        };
        let alone = quantiles(&seen[0], 0.5);
        for (storm, seen) in Storm::ALL.iter().zip(&seen) {
            let against = Runs::ratios(&quantiles(seen, 0.5), &alone);
            let paces = seen.iter().map(|seen| seen.pace / 1e6);
            rows.push(vec![
                kind.to_owned(),
                storm.in_words().to_owned(),
                format!("{:.0}", Runs::new(paces.collect())),
                format!("{:.0}", microseconds(&quantiles(seen, 0.5))),
                format!("{against:.2}"),
                format!("{:.0}", microseconds(&quantiles(seen, 0.99))),
            ]);
            let most = match storm {
                Storm::None | Storm::Silent => continue,
                Storm::Paced => 1.5,
                Storm::Full => 5.0,
            };
            let what = format!("{kind}, median: {} / none", storm.in_words());
            targets.push(Target::at_most(most, what, against.median()));
        }
    }
    Section {
        title: "Responses while refused uploads are discarded",
        how: format!(
            "Microseconds from a request's head to the first byte of its response, with a request \
             each millisecond, on a new connection and on a kept one. Meanwhile, refused clients \
             keep sending and the server, all parts combined, discards it; {}, and the server has \
             one thread for everything. {rounds} rounds of {probes} requests of each kind in turn. \
             A ratio is the median of the ratios within each round.",
            Cores::in_words(cores)
        ),
        head: &[
            "connection",
            "lingering",
            "MB/s sent",
            "median, µs",
            "against none",
            "p99, µs",
        ],
        rows,
        targets,
        notes: vec![
            "The sending clients run in a separate process, which yields its core to any other \
             (`chrt --idle`, or `nice`) and never sleeps. Another such process keeps the server's \
             core awake. Without them the responses would be *faster* while others send, because \
             a sleeping core has to wake first."
                .to_owned(),
        ],
        plots: Vec::new(),
    }
}

fn microseconds(seconds: &[f64]) -> Runs {
    Runs::new(seconds.iter().map(|seconds| seconds * 1e6).collect())
}

fn quantile(figures: &[f64], at: f64) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures[((figures.len() - 1) as f64 * at).round() as usize]
}

fn run(server: &Server, storm: Storm, probes: usize, cores: Option<Cores>) -> Seen {
    let mut senders = Senders::start(server.addr, storm, cores);
    // Lets buffers fill, and earlier work finish.
    sleep(Duration::from_millis(300));
    let (start, before) = (Instant::now(), senders.sent());
    let (fresh, kept) = on_core(cores.map(|cores| cores.load), || {
        let probe = || probe(server.addr, probes).expect("the server responds");
        probe()
    });
    let pace = (senders.sent() - before) as f64 / start.elapsed().as_secs_f64();
    Seen { fresh, kept, pace }
}

/// Sends requests alternately on a fresh connection and on a kept one.
fn probe(addr: SocketAddr, probes: usize) -> io::Result<(Vec<f64>, Vec<f64>)> {
    let request = request("GET /", &[], 0);
    let (mut fresh, mut kept) = (Vec::new(), Vec::new());
    let mut connection = connect(addr)?;
    ask(&mut connection, &request)?;
    for _ in 0..probes {
        sleep(PAUSE);
        fresh.push(ask(&mut connect(addr)?, &request)?);
        sleep(PAUSE);
        kept.push(ask(&mut connection, &request)?);
    }
    Ok((fresh, kept))
}

fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(addr)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(socket)
}

/// Returns the seconds until the response, which arrives in one piece.
fn ask(socket: &mut TcpStream, request: &[u8]) -> io::Result<f64> {
    let start = Instant::now();
    socket.write_all(request)?;
    let mut response = [0; 1024];
    let length = socket.read(&mut response)?;
    let took = start.elapsed().as_secs_f64();
    let response = &response[..length];
    assert!(
        response.starts_with(b"HTTP/1.1 200"),
        "{}",
        response.escape_ascii()
    );
    Ok(took)
}

/// The process of the clients that keep sending.
struct Senders {
    /// The process, which ends before its pipes are dropped.
    _process: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Senders {
    fn start(addr: SocketAddr, storm: Storm, cores: Option<Cores>) -> Self {
        let mut command = yielding(cores.map(|cores| cores.load));
        command
            .args(["client", "senders"])
            .arg(addr.to_string())
            .arg(storm.name());
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let stdin = process.stdin.take().expect("it is piped");
        let stdout = process.stdout.take().expect("it is piped");
        let mut senders = Self {
            _process: Process::of(process),
            stdin,
            stdout: BufReader::new(stdout),
        };
        // The process replies when all clients were refused.
        senders.sent();
        senders
    }

    /// Returns the number of bytes sent so far.
    fn sent(&mut self) -> u64 {
        self.stdin.write_all(b"\n").expect("it reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it replies");
        line.trim().parse().expect("a number")
    }
}

/// Returns a command that runs this program on that core, but yields it to any other process.
fn yielding(core: Option<usize>) -> Command {
    let own = std::env::current_exe().expect("a running program has a path");
    let mut words = Vec::new();
    if let Some(core) = core {
        words.extend(["taskset", "-c"].map(OsString::from));
        words.push(core.to_string().into());
    }
    let mut chrt = Command::new("chrt");
    let chrt = chrt.arg("--version").stdout(Stdio::null()).status();
    let last: &[&str] = match chrt.is_ok_and(|status| status.success()) {
        true => &["chrt", "--idle", "0"],
        false => &["nice", "-n", "19"],
    };
    words.extend(last.iter().map(OsString::from));
    words.push(own.into());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// Runs the process that keeps a core awake.
pub(crate) fn awake() {
    // It ends with its parent.
    let parent = Pid::parent();
    while Pid::parent() == parent {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(1) {
            std::hint::spin_loop();
        }
    }
}

/// Runs those clients. For each line of input, it prints how many bytes were sent so far. It ends
/// with its input.
pub(crate) fn senders(args: &[String]) {
    let [addr, storm] = args else {
        panic!("an address and a storm are expected, not {args:?}");
    };
    let addr = addr.parse().expect("an address");
    let mut storms = Storm::ALL.into_iter();
    let storm = storms.find(|known| known.name() == storm);
    let storm = storm.expect("it is known");
    all_descriptors();
    let clients = if storm == Storm::None { 0 } else { LINGERING };
    let sockets = (0..clients).map(|_| refused(addr));
    let sockets: Vec<_> = sockets
        .collect::<io::Result<_>>()
        .expect("each has its response");
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    std::thread::spawn(move || match storm {
        Storm::None | Storm::Silent => loop {
            std::hint::spin_loop();
        },
        Storm::Paced => send(&sockets, Some(PACE), &counted),
        Storm::Full => send(&sockets, None, &counted),
    });
    for line in io::stdin().lines() {
        line.expect("it is readable");
        println!("{}", sent.load(Ordering::Relaxed));
    }
}

/// Returns a connection whose upload was refused, with nearly all of it unsent.
fn refused(addr: SocketAddr) -> io::Result<TcpStream> {
    let mut socket = connect(addr)?;
    // A thousand connections must not exhaust the system's memory.
    SockRef::from(&socket).set_send_buffer_size(2 * CHUNK)?;
    let length = u64::MAX / 2;
    socket.write_all(&request(
        "POST /",
        &[&format!("content-length: {length}")],
        0,
    ))?;
    // It arrives in one piece. Its end would come only with the half-close, which waits for uploads.
    let mut response = [0; 1024];
    let length = socket.read(&mut response)?;
    let response = &response[..length];
    assert!(
        response.starts_with(b"HTTP/1.1 413"),
        "{}",
        response.escape_ascii()
    );
    Ok(socket)
}

/// Writes to the sockets in turn, a chunk each, no faster than `pace`.
fn send(sockets: &[TcpStream], pace: Option<u64>, sent: &AtomicU64) {
    let chunk = vec![0; CHUNK];
    // The time of the next write. Long delays are not made up for.
    let mut due = Instant::now();
    for mut socket in sockets.iter().cycle() {
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        // A closed connection has reached a limit.
        let now = socket.write(&chunk).expect("it lingers");
        sent.fetch_add(now as u64, Ordering::Relaxed);
        if let Some(pace) = pace {
            let takes = Duration::from_secs_f64(now as f64 / pace as f64);
            let missed = Instant::now().checked_sub(Duration::from_millis(10));
            due = due.max(missed.unwrap_or(due)) + takes;
        }
    }
}
