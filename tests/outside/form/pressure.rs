//! `--linger-max`, `--min-rate`, `/metrics`, and the form with few file descriptors.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
};

use libtest_mimic::Failed;
use testkit::{
    Framing, LARGE, SendFirst,
    client::{connect, get, read_response},
    outside::{Form, Need, Trial, trial, until},
};

use super::stage::{Stage, test};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("metrics_tell_what_was_refused_and_lingered_for", metrics),
        test("linger_max_has_the_longest_silent_give_way", linger_max),
        test("min_rate_refuses_a_slow_upload", min_rate),
        trial(
            "few_descriptors_are_no_reason_to_turn_anybody_away",
            &[Need::program("sh")],
            few_descriptors,
        ),
    ]
}

fn figure(addr: SocketAddr, name: &str) -> u64 {
    let text = get(addr, "/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    line.trim().parse().unwrap()
}

/// Returns the client of a refused upload that has read the reason and stays silent.
fn silent(addr: SocketAddr) -> TcpStream {
    let mut socket = connect(addr);
    let upload = SendFirst::post("/raw", Framing::ContentLength, LARGE);
    socket.write_all(upload.head().as_bytes()).unwrap();
    socket.write_all(&[0; 1000]).unwrap();
    assert_eq!(read_response(&mut socket).unwrap().status, 413);
    socket
}

fn metrics() {
    let stage = Stage::start(&[]);
    let addr = stage.addr();
    let lingering = || figure(addr, "bodyguard_lingering{linger=\"form\"} ");
    let socket = silent(addr);
    until("it lingers", || lingering() == 1);
    drop(socket);
    until("it no longer lingers", || lingering() == 0);
    assert_eq!(
        figure(addr, "bodyguard_refusals_total{kind=\"declared\"} "),
        1
    );
    assert_eq!(
        figure(addr, "bodyguard_lingers_total{reason=\"completed\"} "),
        1
    );
    assert_eq!(figure(addr, "bodyguard_draining{linger=\"form\"} "), 0);
    assert_eq!(
        figure(
            addr,
            "bodyguard_linger_duration_seconds_bucket{le=\"600\"} "
        ),
        1
    );
}

fn linger_max() {
    let stage = Stage::start(&["--linger-max", "2"]);
    let addr = stage.addr();
    let sockets: Vec<_> = (1..=5)
        .map(|count| {
            let socket = silent(addr);
            let evicted = || figure(addr, "bodyguard_lingers_total{reason=\"evicted\"} ");
            let lingering = || figure(addr, "bodyguard_lingering{linger=\"form\"} ");
            until("it lingers", || evicted() + lingering() == count);
            socket
        })
        .collect();
    assert_eq!(figure(addr, "bodyguard_lingering{linger=\"form\"} "), 2);
    drop(sockets);
}

fn min_rate() {
    let stage = Stage::start(&["--min-rate", "1GiB"]);
    let mut socket = connect(stage.addr());
    let upload = SendFirst::post("/raw", Framing::ContentLength, 1000);
    socket.write_all(upload.head().as_bytes()).unwrap();
    socket.write_all(&[0; 10]).unwrap();
    let response = read_response(&mut socket).unwrap();
    assert_eq!(response.status, 408);
    assert!(response.body.contains("1 GiB"), "{}", response.body);
    assert_eq!(socket.read(&mut [0]).unwrap(), 0);
}

/// Runs the form with 64 file descriptors, and 200 silent refused clients.
fn few_descriptors() -> Result<(), Failed> {
    // Runs with the default of a quarter, and with lingering connections allowed to take all of
    // them.
    for flags in [&[][..], &["--linger-max", "1000"]] {
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"]);
        limited.arg(Form::program());
        let form = Form::start_by(limited, "127.0.0.1:0", flags);
        let addr = form.addr();
        let sockets: Vec<_> = (0..200).map(|_| silent(addr)).collect();
        assert_eq!(get(addr, "/").status, 200);
        assert!(figure(addr, "bodyguard_lingers_total{reason=\"evicted\"} ") >= 130);
        drop(sockets);
    }
    Ok(())
}
