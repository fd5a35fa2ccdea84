//! Checks the model of `docs/CAPACITY.md`. Its constants come from a small flow of refused clients,
//! and its predictions are compared with a flow ten times as large.

use std::{
    collections::VecDeque,
    io::Write,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Effort,
    growth::Kernel,
    line::{Line, crowd},
    peer::Peer,
    process::{Cores, all_descriptors, on_core},
    report::{Section, Target},
};

/// The number of clients that arrive together.
const COHORT: usize = 10;
/// How many of these keep sending. The others are silent.
const SENDERS: usize = 5;
/// The bytes of one write of a sender.
const PIECE: usize = 16 << 10;
/// How often a sender writes while its connection lingers.
const PIECES: u32 = 9;

/// Refused clients that arrive evenly. Each connection lingers for the same time.
#[derive(Clone, Copy)]
struct Flow {
    /// The time from one cohort to the next.
    every: Duration,
    /// How long each connection lingers, in seconds.
    lasts: u32,
    senders: usize,
    /// How long the flow is measured, in seconds, once as many clients leave as arrive.
    look: u32,
}

/// Figures of the server. Bytes are in excess of those before the clients.
struct Seen {
    sockets: f64,
    resident: f64,
    objects: f64,
    /// Per second: seconds of CPU, refusals, pieces.
    cpu: f64,
    refusals: f64,
    pieces: f64,
}

impl Flow {
    fn per_second(&self) -> f64 {
        COHORT as f64 / self.every.as_secs_f64()
    }

    /// Returns the pieces per second.
    fn pieces(&self) -> f64 {
        self.per_second() / COHORT as f64 * (self.senders as u32 * PIECES) as f64
    }

    fn sockets(&self) -> f64 {
        self.per_second() * f64::from(self.lasts)
    }

    fn seen(self) -> Seen {
        let cores = Cores::find();
        let core = cores.map(|cores| cores.server);
        let peer = Peer::start("refusing-ours", &[&self.lasts.to_string()], core);
        let (resident, kernel) = (peer.process.resident() as f64, Kernel::now());
        let load = cores.map(|cores| cores.load);
        on_core(load, || self.run(&peer, resident, &kernel))
    }

    fn run(self, peer: &Peer, resident: f64, kernel: &Kernel) -> Seen {
        let in_second = (1.0 / self.every.as_secs_f64()).round() as usize;
        let lasts = self.lasts as usize * in_second;
        // The server closes silent clients. They stay for another second.
        let stays = lasts + in_second;
        let ticks = stays + self.look as usize * in_second;
        let content = vec![0; PIECE];
        let mut cohorts: VecDeque<Vec<TcpStream>> = VecDeque::with_capacity(stays + 1);
        let (mut from, mut cpu) = (Instant::now(), Duration::ZERO);
        let (mut refusals, mut pieces) = (0, 0);
        let start = Instant::now();
        for tick in 0..ticks {
            thread::sleep((self.every * tick as u32).saturating_sub(start.elapsed()));
            if tick == stays {
                (from, cpu) = (Instant::now(), peer.process.cpu());
                (refusals, pieces) = (0, 0);
            }
            cohorts.push_front(crowd(COHORT, || peer.connect(), Line::ask));
            refusals += COHORT;
            for piece in 1..=PIECES as usize {
                let age = lasts * piece / (PIECES as usize + 1);
                let cohort = cohorts.get_mut(age).into_iter().flatten();
                for socket in cohort.take(self.senders) {
                    socket.write_all(&content).expect("the server drains");
                    pieces += 1;
                }
            }
            if let Some(cohort) = cohorts.get_mut(lasts) {
                cohort.drain(..self.senders);
            }
            cohorts.truncate(stays);
        }
        let took = from.elapsed().as_secs_f64();
        let cpu = peer.process.cpu().saturating_sub(cpu).as_secs_f64();
        let objects = Kernel::now().objects.zip(kernel.objects);
        Seen {
            sockets: peer.held() as f64,
            resident: peer.process.resident() as f64 - resident,
            objects: objects.map_or(f64::NAN, |(now, before)| now - before),
            cpu: cpu / took,
            refusals: refusals as f64 / took,
            pieces: f64::from(pieces) / took,
        }
    }
}

/// Bytes of memory: the part independent of the number of sockets, and the part for each socket.
struct Memory {
    base: f64,
    process: f64,
    kernel: f64,
}

/// Measures how much more memory a larger number takes.
fn memory(few: usize) -> Memory {
    let peer = Peer::start("refusing-ours", &[], None);
    let rest = peer.process.resident() as f64;
    let come = |count| {
        let crowd = crowd(count, || peer.connect(), Line::ask);
        thread::sleep(Duration::from_millis(300));
        let objects = Kernel::now().objects.unwrap_or(f64::NAN);
        (crowd, peer.process.resident() as f64 - rest, objects)
    };
    let (_few, resident, kernel) = come(few);
    let (_more, more, more_kernel) = come(2 * few);
    let process = (more - resident) / (2 * few) as f64;
    Memory {
        base: resident - few as f64 * process,
        process,
        kernel: (more_kernel - kernel) / (2 * few) as f64,
    }
}

pub(crate) fn measure(effort: Effort) -> Section {
    let still = Flow {
        every: Duration::from_millis(20),
        lasts: effort.of(2, 1),
        senders: 0,
        look: effort.of(20, 2),
    };
    let sending = Flow {
        senders: SENDERS,
        ..still
    };
    let large = Flow {
        every: Duration::from_millis(10),
        lasts: effort.of(10, 2),
        ..sending
    };
    all_descriptors();
    let memory = memory(effort.of(1_000, 500));
    let [still, moving, seen] = [still, sending, large].map(Flow::seen);
    let refusal = still.cpu / still.refusals;
    let piece = (moving.cpu - refusal * moving.refusals) / moving.pieces;

    let mib = |bytes: f64| bytes / (1 << 20) as f64;
    let constant = |what: &str, value: String| vec!["constant".to_owned(), what.to_owned(), value];
    let mut rows = vec![
        constant(
            "process, MiB, for any number",
            format!("{:.1}", mib(memory.base)),
        ),
        constant(
            "process, bytes per socket",
            format!("{:.0}", memory.process),
        ),
        constant("kernel, bytes per socket", format!("{:.0}", memory.kernel)),
        constant("CPU, µs per refusal", format!("{:.1}", refusal * 1e6)),
        constant("CPU, µs per piece", format!("{:.1}", piece * 1e6)),
    ];
    let in_mb = |pieces: f64| pieces * PIECE as f64 / 1e6;
    let (sockets, pieces) = (large.sockets(), large.pieces());
    let process = mib(memory.base + sockets * memory.process);
    let cpu = large.per_second() * refusal + pieces * piece;
    let compared = [
        ("sockets", sockets, seen.sockets),
        ("process, MiB", process, mib(seen.resident)),
        (
            "kernel, MiB",
            mib(sockets * memory.kernel),
            mib(seen.objects),
        ),
        ("CPU, ms per s", cpu * 1e3, seen.cpu * 1e3),
        ("in, MB per s", in_mb(pieces), in_mb(seen.pieces)),
    ];
    let mut targets = Vec::new();
    let mut notes = Vec::new();
    for (what, predicted, seen) in compared {
        if seen.is_nan() {
            notes.push(format!("{what}: needs root."));
            continue;
        }
        rows.push(vec![
            "predicted, and measured".to_owned(),
            what.to_owned(),
            format!("{predicted:.1}, and {seen:.1}"),
        ]);
        let off = (predicted - seen).abs() / seen;
        targets.push(Target::at_most(0.2, format!("{what}: off by"), off));
    }
    Section {
        title: "Capacity",
        how: format!(
            "The constants of [the model](../docs/CAPACITY.md). Those of memory come from a small \
             crowd, and those of CPU from {:.0} refusals a second that linger for {} s. They \
             predict a flow of {:.0} a second that linger for {} s. Half of the clients send a \
             piece of 16 KiB, {PIECES} times in that time, and end. The others are silent.",
            sending.per_second(),
            sending.lasts,
            large.per_second(),
            large.lasts
        ),
        head: &["", "what", "figure"],
        rows,
        targets,
        notes,
        plots: Vec::new(),
    }
}
