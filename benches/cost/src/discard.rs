//! The cost of discarding the remaining upload of a refused client.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Effort,
    line::Line,
    measure::{Runs, in_turn},
    peer::Peer,
    plot,
    process::{Cores, on_core},
    report::{Section, Target},
};

/// The number of concurrent connections.
pub(crate) const CONNECTIONS: usize = 8;
/// The bytes that a paced client sends per second, and in one write. A network card hands over at
/// most this many bytes at a time.
pub(crate) const PACE: f64 = 20e6;
pub(crate) const PIECE: usize = 64 << 10;
/// The bytes of one write of a client that does not wait.
const WRITE: usize = 256 << 10;

/// How the clients send.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// The clients send as fast as they can.
    Saturated,
    /// Each client sends at [`PACE`].
    Paced,
}

impl Load {
    const fn name(self) -> &'static str {
        match self {
            Self::Saturated => "saturated",
            Self::Paced => "paced",
        }
    }
}

/// Sends this many bytes and returns.
pub(crate) fn send(line: &mut Line, bytes: u64, load: Load) {
    let piece = match load {
        Load::Saturated => WRITE,
        Load::Paced => PIECE,
    };
    let content = vec![0; piece];
    let start = Instant::now();
    let mut sent = 0;
    while sent < bytes {
        if load == Load::Paced {
            let due = Duration::from_secs_f64(sent as f64 / PACE);
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
        line.write_all(&content).expect("the server drains");
        sent += piece as u64;
    }
}

/// Returns the server's CPU seconds per GB, from the first byte after the responses to the end of
/// the last connection.
fn cost(peer: &Peer, each: u64, load: Load) -> f64 {
    let cpu = peer.cpu_of(
        CONNECTIONS,
        || peer.connect().refused(),
        |line| send(line, each, load),
    );
    cpu.as_secs_f64() / (each * CONNECTIONS as u64) as f64 * 1e9
}

/// Asserts that `LingerIo` discarded everything that our server was sent, and not hyper or another
/// part.
fn assert_lingered(peer: &Peer, sent: u64) {
    let said = peer.said();
    let all = said.discarded as f64 > 0.95 * sent as f64;
    assert!(all && said.cut == 0, "lingered: {said:?} of {sent} bytes");
}

pub(crate) fn measure(effort: Effort) -> Section {
    let cores = Cores::find();
    on_core(cores.map(|cores| cores.load), || measure_on(cores, effort))
}

fn measure_on(cores: Option<Cores>, effort: Effort) -> Section {
    let core = cores.map(|cores| cores.server);
    let own = |name: &str| Peer::start(&format!("refusing-{name}"), &[], core);
    let [ours, bare, reading] = ["ours", "bare", "reading"].map(own);
    let [below, decrypting] = ["ours-tls", "decrypting"].map(own);
    let nginx = Peer::nginx(core);

    let rounds = effort.of(5, 1);
    let mut rows = Vec::new();
    let mut targets = Vec::new();
    let mut sent = 0;
    let mut shown = Vec::new();
    let mut notes = vec![String::from(
        "The bare loop is `recv` with `MSG_TRUNC` in a tokio task, 256 KiB at most, without \
         HTTP, limits or counters. That is the best possible case. The socket wrapper reports \
         that it discarded everything that ours was sent. With paced clients, each piece wakes \
         the server, and the wake-up is most of the cost.",
    )];
    for load in [Load::Saturated, Load::Paced] {
        let each = match load {
            Load::Saturated => effort.of(250_000_000, 50_000_000),
            Load::Paced => effort.of(80_000_000, 10_000_000),
        };
        let all = [&ours, &bare, &reading, &below, &decrypting];
        let mut costs = all.map(|peer| move || cost(peer, each, load));
        let [a, b, c, d, e] = costs.each_mut();
        let runs = in_turn(
            rounds,
            [a, b, c, d, e, &mut || {
                nginx
                    .as_ref()
                    .map_or(f64::NAN, |peer| cost(peer, each, load))
            }],
        );
        sent += each * (CONNECTIONS * rounds) as u64;
        let [ours, bare, reading, below, decrypting, other] = &runs;
        let names = NAMES.iter().zip(&runs);
        for (name, runs) in names.filter(|(_, runs)| runs.median().is_finite()) {
            rows.push(vec![
                (*name).to_owned(),
                load.name().to_owned(),
                format!("{runs:.3}"),
                format!("{:.2}", runs.median() / bare.median()),
            ]);
        }
        shown.push((load.name(), runs.each_ref().map(Runs::median)));
        let against = |bound, what: &str, one: &Runs, other: &Runs| {
            let what = format!("{}: {what}", load.name());
            Target::at_most(bound, what, one.median() / other.median())
        };
        targets.push(against(1.25, "ours / bare loop", ours, bare));
        targets.push(against(1.0, "ours / 64 KiB reads", ours, reading));
        if nginx.is_some() {
            targets.push(against(0.333, "ours / nginx", ours, other));
            notes.push(format!(
                "{}: the bare loop takes {:.2} of what nginx takes, which drains 4 KiB at a time.",
                load.name(),
                bare.median() / other.median()
            ));
        }
        targets.push(against(
            0.333,
            "ours beneath TLS / decrypting",
            below,
            decrypting,
        ));
    }
    assert_lingered(&ours, sent);
    assert_lingered(&below, sent);

    notes.push(
        "With paced clients, no server that reads at each wake-up can reach a third of nginx, \
         because the wake-up itself is nearly the whole cost. A server that wakes less often \
         would leave bytes in the kernel, and would take a slow sender for a silent one. \
         Beneath TLS, ours just reaches a third."
            .to_owned(),
    );
    if nginx.is_none() {
        notes.push("nginx is not installed, so it is missing here.".to_owned());
    }
    Section {
        title: "Discarding",
        how: format!(
            "CPU seconds of the server's process per GB that {CONNECTIONS} refused clients still \
             send: as fast as they can, and at {} MB/s each in pieces of 64 KiB. Median and spread \
             of {rounds} rounds in turn, {}.",
            PACE / 1e6,
            Cores::in_words(cores)
        ),
        head: &["server", "clients", "CPU s per GB", "against the bare loop"],
        rows,
        targets,
        notes,
        plots: vec![plot::bars(
            "discard.svg",
            "CPU seconds per GB discarded",
            &NAMES,
            &shown,
        )],
    }
}

/// The names in the order of measurement.
const NAMES: [&str; 6] = [
    "ours",
    "bare loop",
    "64 KiB reads",
    "ours, beneath TLS",
    "decrypting",
    "nginx",
];
