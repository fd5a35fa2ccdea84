//! File descriptors run out. The crate releases the ones that it can, and accepting continues.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use testkit::{
    LARGE, SendFirst,
    client::{Framing, PATIENCE, connect, get, read_response},
    crowd::{Drip, Paced},
};

use super::{
    states::{Exit, LIMIT, State},
    subject::{Kind, Subject},
};

/// Starts a server with this many file descriptors and with timeouts that are too long to help.
fn limited(kind: Kind, descriptors: usize, more: &[&str]) -> Subject {
    let program = kind.program();
    let mut shell = Command::new("sh");
    let limit = format!("ulimit -n {descriptors} && exec \"$@\"");
    shell.args(["-c", &limit, "sh"]).arg(program.get_program());
    let envs = program.get_envs();
    shell.envs(envs.filter_map(|(name, value)| Some((name, value?))));
    let mut flags = kind.flags("10m", "10m");
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    Subject::start_by(shell, &flags, None)
}

/// Sends a GET over a kept connection and returns the response body.
fn ask(socket: &mut TcpStream, path: &str) -> String {
    let get = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    socket.write_all(get.as_bytes()).unwrap();
    read_response(socket).unwrap().body
}

fn lingering(socket: &mut TcpStream) -> u64 {
    let text = ask(socket, "/metrics");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("bodyguard_lingering{linger=\"form\"} "));
    line.expect("it is reported").parse().expect("a number")
}

/// Takes all file descriptors that the server has left, when it has no more than `descriptors` open.
/// A connection that the test has closed holds one until the server closes it, too. If that happened
/// later, the next connection would need one eviction less.
fn hold_the_others(server: &Subject, kept: &mut TcpStream, descriptors: usize) {
    let start = Instant::now();
    while server.descriptors() > descriptors {
        assert!(start.elapsed() < PATIENCE, "more than {descriptors}");
    }
    ask(kept, "/hold");
}

/// Tests `EMFILE` with file descriptors that others hold. Each connection that cannot be accepted
/// evicts one that lingers. Another eviction makes room for the next: Linux allocates a file
/// descriptor before it looks for a connection (`accept4`), so the listener needs one.
pub(crate) fn emfile() {
    const LINGERING: u64 = 20;
    let server = limited(Kind::Ours, 64, &[]);
    let addr = server.addr();
    let mut kept = connect(addr);
    let silent: Vec<_> = (0..LINGERING).map(|_| State::Linger.enter(addr)).collect();
    while lingering(&mut kept) < LINGERING {}

    let mut left = LINGERING;
    let mut descriptors = server.at_rest.descriptors + 1 + silent.len();
    let mut all = 0;
    while left > 0 {
        hold_the_others(&server, &mut kept, descriptors);
        let held_beside = lingering(&mut kept);
        // Fewer are open if the listener has evicted another since.
        all = all.max(server.descriptors());
        assert_eq!(get(addr, "/").status, 200);
        let now = lingering(&mut kept);
        // An eviction after the last measurement counts here, so there may be three.
        assert!((1..=3).contains(&(left - now)), "{now} of {left}");
        descriptors = all - (held_beside - now) as usize;
        left = now;
    }
    drop(silent);
    assert_accepts_after_release(&server, &mut kept, addr);
}

/// Tests `EMFILE` that only axum sees. axum then sleeps.
pub(crate) fn tapped() {
    const LINGERING: u64 = 4;
    let server = limited(Kind::Ours, 64, &["--tapped"]);
    let addr = server.addr();
    let mut kept = connect(addr);
    let silent: Vec<_> = (0..LINGERING).map(|_| State::Linger.enter(addr)).collect();
    while lingering(&mut kept) < LINGERING {}
    let descriptors = server.at_rest.descriptors + 1 + silent.len();
    hold_the_others(&server, &mut kept, descriptors);
    assert_eq!(get(addr, "/").status, 200);
    // One eviction is for the connection and one for the next, unless the first is closed again
    // before the next `accept4`.
    let evicts = |now: u64| (1..=2).contains(&(LINGERING - now));
    assert!(evicts(lingering(&mut kept)));
    server.assert_idle();
    assert!(evicts(lingering(&mut kept)));
}

/// 900 idle connections hold most of 1024 file descriptors. The refused connections of one client
/// take the others. Refused uploads at 200 kB/s are still delivered.
pub(crate) fn idle() {
    let server = limited(Kind::Ours, 1024, &[]);
    let addr = server.addr();
    let idle: Vec<_> = (0..900).map(|_| connect(addr)).collect();
    // Connections are accepted in order.
    assert_eq!(get(addr, "/").status, 200);
    let honest = Paced {
        from: Ipv4Addr::LOCALHOST.into(),
        pieces: 20,
        piece: 20_000,
        pause: Duration::from_millis(100),
    };
    for per_second in [7, 70] {
        let drip = Drip {
            from: Ipv4Addr::LOCALHOST.into(),
            first: 100,
            per_second,
            piece: 1,
            every: Duration::from_millis(100),
        };
        let attack = drip.on(addr, "/raw");
        server.until("the attack takes what is left", |figures| {
            figures.lingering > 60
        });
        assert_eq!(honest.delivered(10, addr, "/raw"), 10);
        drop(attack);
    }
    drop(idle);
}

/// Nothing can be evicted. The holder finally releases the file descriptors, and accepting has
/// continued.
fn assert_accepts_after_release(server: &Subject, kept: &mut TcpStream, addr: SocketAddr) {
    ask(kept, "/hold");
    let mut waiting = connect(addr);
    waiting
        .write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .unwrap();
    server.assert_idle();
    ask(kept, "/release");
    assert_eq!(read_response(&mut waiting).unwrap().status, 200);
}

/// Runs the form with 256 file descriptors. More refused clients than that connect: silent clients,
/// clients that reset, and clients that are still sending.
pub(crate) fn few() {
    let form = limited(Kind::Form, 256, &[]);
    let addr = form.addr();
    let mut kept = Vec::new();
    for round in 0..100 {
        kept.push(State::Linger.enter(addr));
        kept.push(State::Linger.enter(addr));
        kept.push(State::Refused.enter(addr));
        State::Refused.enter(addr).leave(Exit::Reset);
        State::Drain.enter(addr).leave(Exit::Reset);
        if round % 10 == 9 {
            assert_eq!(get(addr, "/").status, 200);
            for (length, status) in [(LIMIT, 200), (LARGE, 413)] {
                let upload = SendFirst::post("/raw", Framing::ContentLength, length);
                let outcome = upload.header("Connection: close").to(addr);
                outcome.assert_delivered(status);
            }
        }
    }
    form.until("they linger, and not too many", |figures| {
        (1..=64).contains(&figures.lingering)
    });
    drop(kept);
    form.until_at_rest();
    form.assert_idle();
}
