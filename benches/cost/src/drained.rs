//! Compares a body that delivery drains to keep the connection with one that a handler reads.

use std::io::Write;

use crate::{
    Effort,
    line::Line,
    measure::{Runs, in_turn},
    peer::Peer,
    process::{Cores, on_core},
    report::{Section, Target},
};

const CONNECTIONS: usize = 8;
const BODY: usize = 64 << 20;

/// Sends uploads one after the other on one connection, which must be kept.
fn upload(line: &mut Line, path: &str, times: usize) {
    let head = format!("POST {path} HTTP/1.1\r\nhost: cost\r\ncontent-length: {BODY}\r\n\r\n");
    let content = vec![0; 256 << 10];
    for _ in 0..times {
        line.write_all(head.as_bytes()).expect("the server reads");
        for _ in 0..BODY / content.len() {
            line.write_all(&content).expect("the server drains");
        }
        assert_eq!(line.answer(), 200);
    }
    line.ask_and_stay();
    assert_eq!(line.answer(), 200);
}

/// Returns the server's CPU seconds per GB.
fn cost(peer: &Peer, path: &str, times: usize) -> f64 {
    let cpu = peer.cpu_of(
        CONNECTIONS,
        || peer.connect(),
        |line| upload(line, path, times),
    );
    cpu.as_secs_f64() / (BODY * CONNECTIONS * times) as f64 * 1e9
}

pub(crate) fn measure(effort: Effort) -> Section {
    let cores = Cores::find();
    on_core(cores.map(|cores| cores.load), || measure_on(cores, effort))
}

fn measure_on(cores: Option<Cores>, effort: Effort) -> Section {
    let peer = Peer::start("refusing-ours", &[], cores.map(|cores| cores.server));
    let (rounds, times) = (effort.of(9, 1), effort.of(4, 1));
    let [read, left] = in_turn(
        rounds,
        [&mut || cost(&peer, "/read", times), &mut || {
            cost(&peer, "/leave", times)
        }],
    );
    let row = |name: &str, runs: &Runs| vec![name.to_owned(), format!("{runs:.3}")];
    let against = left.median() / read.median();
    Section {
        title: "Draining, to keep a connection",
        how: format!(
            "CPU seconds of the server's process per GB. {CONNECTIONS} clients upload {} MiB, \
             {times} times on one connection, and read each response afterwards. Median and \
             spread of {rounds} rounds in turn, {}. Both are routes of one app.",
            BODY >> 20,
            Cores::in_words(cores)
        ),
        head: &["the body", "CPU s per GB"],
        rows: vec![
            row("read by a handler, frame by frame", &read),
            row("drained by delivery", &left),
        ],
        targets: vec![Target::at_most(1.05, "drain / handler", against)],
        notes: Vec::new(),
        plots: Vec::new(),
    }
}
