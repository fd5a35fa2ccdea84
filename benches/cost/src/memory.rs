//! How much process memory a lingering connection takes.

use crate::{
    Effort,
    line::{Line, crowd},
    measure::Runs,
    peer::{Peer, wait},
    process::all_descriptors,
    report::{Section, Target},
};

/// The request that keeps a crowd connected.
type Ask = fn(&mut Line);

/// A compared server.
#[derive(Clone, Copy)]
struct Subject {
    name: &'static str,
    /// `None` is nginx.
    server: Option<&'static str>,
    ask: Ask,
}

impl Subject {
    const fn own(name: &'static str, server: &'static str, ask: Ask) -> Self {
        let server = Some(server);
        Self { name, server, ask }
    }

    fn start(&self) -> Option<Peer> {
        match self.server {
            Some(server) => Some(Peer::start(server, &[], None)),
            None => Peer::nginx(None),
        }
    }
}

const SUBJECTS: [Subject; 5] = [
    Subject::own("ours", "refusing-ours", Line::ask),
    Subject::own("ours, beneath TLS", "refusing-ours-tls", Line::ask),
    Subject::own(
        "hyper's connection, kept",
        "refusing-idle",
        Line::ask_and_stay,
    ),
    Subject::own("the same over TLS", "refusing-idle-tls", Line::ask_and_stay),
    Subject {
        name: "nginx, lingering",
        server: None,
        ask: Line::ask,
    },
];

/// Bytes of resident memory in excess of the initial value.
#[derive(Clone, Copy)]
struct Seen {
    /// After the first crowd had left.
    between: f64,
    /// With the whole second crowd.
    second: f64,
}

/// Connects `count` clients, lets them leave, and connects as many again.
fn seen(peer: &Peer, count: usize, ask: Ask) -> Seen {
    let rest = peer.process.resident() as f64;
    let come = || {
        let crowd = crowd(count, || peer.connect(), ask);
        // hyper's part of the connections must be dropped, too.
        wait("all of them are held", || peer.held() == count);
        std::thread::sleep(std::time::Duration::from_millis(200));
        crowd
    };
    drop(come());
    peer.let_go();
    let between = peer.process.resident() as f64 - rest;
    let crowd = come();
    let second = peer.process.resident() as f64 - rest;
    assert_eq!(peer.held(), count, "they stay");
    drop(crowd);
    peer.let_go();
    Seen { between, second }
}

/// Returns the live bytes and allocations of each of `count` lingering connections.
fn live(name: &str, count: usize) -> (f64, f64) {
    let peer = Peer::start(name, &[&count.to_string()], None);
    let crowd = crowd(count, || peer.connect(), Line::ask);
    let mut said = String::new();
    wait("all of them linger", || {
        said = peer.get("/live");
        !said.is_empty()
    });
    drop(crowd);
    let (bytes, pieces) = said.split_once(' ').expect("two numbers");
    let each = |number: &str| number.parse::<f64>().expect("a number") / count as f64;
    (each(bytes), each(pieces))
}

pub(crate) fn measure(effort: Effort) -> Section {
    let count = effort.of(10_000, 1_000);
    all_descriptors();
    let rounds = effort.of(3, 1);
    let kib = |bytes: f64| bytes / count as f64 / 1024.0;

    let mut runs = SUBJECTS.map(|_| Vec::new());
    for _ in 0..rounds {
        for (subject, runs) in SUBJECTS.iter().zip(&mut runs) {
            let peer = subject.start();
            runs.extend(peer.map(|peer| seen(&peer, count, subject.ask)));
        }
    }
    let mut counted = ["refusing-live", "refusing-live-tls"]
        .map(|name| live(name, count))
        .into_iter();

    let mut rows = Vec::new();
    let mut each = Vec::new();
    for (subject, runs) in SUBJECTS.iter().zip(&runs) {
        if runs.is_empty() {
            continue;
        }
        let over_rest = Runs::new(runs.iter().map(|seen| kib(seen.second)).collect());
        let kept = Runs::new(runs.iter().map(|seen| kib(seen.between)).collect());
        let (bytes, pieces) = match counted.next() {
            Some((bytes, pieces)) => (format!("{bytes:.0}"), format!("{pieces:.1}")),
            None => ("".to_owned(), "".to_owned()),
        };
        let (second, between) = (format!("{over_rest:.2}"), format!("{kept:.2}"));
        rows.push(vec![
            subject.name.to_owned(),
            second,
            between,
            bytes,
            pieces,
        ]);
        each.push(over_rest.median());
    }
    let mut targets = vec![
        Target::at_most(1.25, "ours, KiB each", each[0]),
        Target::at_most(1.25, "ours beneath TLS, KiB each", each[1]),
        Target::at_most(0.1, "ours / hyper's connection", each[0] / each[2]),
    ];
    let mut notes = vec![
        "Live bytes and allocations are those of a server on one thread, counted by its \
         allocator, in excess of those before the first client."
            .to_owned(),
        "For a refused client, nothing of hyper or TLS is left: only a task with its timer and \
         the socket's registration."
            .to_owned(),
    ];
    match each.get(4) {
        Some(nginx) => targets.push(Target::at_most(0.143, "ours / nginx", each[0] / nginx)),
        None => notes.push("nginx is not installed, so it is missing here.".to_owned()),
    }
    Section {
        title: "Memory of a lingering connection",
        how: format!(
            "Resident memory of the server's process for each of {count} silent connections, in \
             excess of that before the first. As many connections were opened and closed once \
             before. The third column is the memory that the process kept of those. Median and \
             spread of {rounds} new processes."
        ),
        head: &[
            "server",
            "KiB each",
            "KiB each that stay after they left",
            "live bytes each",
            "allocations each",
        ],
        rows,
        targets,
        notes,
        plots: Vec::new(),
    }
}
