//! The trials, and the roles of the executable in them.

use std::{env, io, net::SocketAddr};

use libtest_mimic::Failed;
use testkit::outside::{Need, Trial, trial};

use super::{
    network::{ADDRESS, Clients, Network, needs},
    scarce, server,
    states::{Exit, State},
    subject::{Figures, Kind, Subject, metrics, role, within},
};

/// The number of clients in each state.
const CLIENTS: usize = 5;

/// Plays a role of the test executable.
pub(crate) fn play(role: &str) {
    let mut words = env::args().skip(1);
    let mut addr = || -> SocketAddr {
        let word = words.next().expect("an address argument");
        word.parse().expect("an address")
    };
    match role {
        "server" => server::run(),
        "metrics" => print!("{}", metrics(addr())),
        "clients" => be_clients(&[addr(), addr()]),
        role => panic!("no such role: {role}"),
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for kind in Kind::BOTH {
        for exit in Exit::ALL {
            let name = format!("of_{exit:?}_nothing_is_left_at_{}", kind.name());
            trials.push(trial(name.to_lowercase(), &[], move || {
                leave(kind, exit);
                Ok(())
            }));
        }
    }
    trials.push(trial("of_the_vanished_nothing_is_left", &needs(), vanish));
    let limited: [(_, fn()); 4] = [
        ("emfile_ends_lingers_and_not_the_accepting", scarce::emfile),
        ("emfile_of_wrapped_listener_ends_lingers", scarce::tapped),
        (
            "idle_connections_leave_descriptors_for_lingers",
            scarce::idle,
        ),
        ("with_256_descriptors_others_are_served", scarce::few),
    ];
    trials.extend(limited.map(|(name, test)| of_few_descriptors(name, test)));
    trials
}

fn of_few_descriptors(name: &str, test: fn()) -> Trial {
    trial(name, &[Need::program("sh")], move || {
        test();
        Ok(())
    })
}

/// Returns whether this many clients are in each state.
fn is_reached(figures: Figures, states: &[State], at_rest: Figures) -> bool {
    let count = |is: fn(State) -> bool| {
        let those = states.iter().filter(|state| is(**state));
        (those.count() * CLIENTS) as u64
    };
    figures.lingering == count(State::lingers)
        && figures.reading == count(State::is_drained)
        && figures.descriptors >= at_rest.descriptors + states.len() * CLIENTS
}

fn leave(kind: Kind, exit: Exit) {
    // These timeouts are too long to help.
    let server = Subject::start(kind, &kind.flags("10m", "10m"));
    let states = kind.states();
    let clients: Vec<_> = states
        .iter()
        .flat_map(|state| (0..CLIENTS).map(|_| state.enter(server.addr())))
        .collect();
    server.until("each is in its state", |figures| {
        is_reached(figures, states, server.at_rest)
    });
    server.assert_idle();
    for client in clients {
        client.leave(exit);
    }
    server.until_at_rest();
    server.assert_idle();
}

/// Returns the states whose clients the crate or the kernel gives up.
fn that_end(kind: Kind) -> Vec<State> {
    let states = kind.states().iter().copied();
    let ends = |state: &State| match state {
        State::Head => false,
        // With `--min-rate`, the form would wait 5 s for the body of a silent client.
        State::Body => matches!(kind, Kind::Ours),
        _ => true,
    };
    states.filter(ends).collect()
}

fn vanish() -> Result<(), Failed> {
    let network = Network::make()?;
    let subjects = Kind::BOTH.map(|kind| {
        let mut flags = kind.flags("2s", "2s");
        let port = 3000 + kind as u16;
        flags.extend(["--addr".to_owned(), format!("{ADDRESS}:{port}")]);
        let command = within(&network.server, &kind.program());
        Subject::start_by(command, &flags, Some(network.server.clone()))
    });

    let mut clients = within(&network.client, &role("clients"));
    clients.args(
        subjects
            .each_ref()
            .map(|subject| subject.addr().to_string()),
    );
    let clients = Clients::start(clients);
    network.cut()?;
    let are_there = subjects.each_ref().map(|subject| !subject.is_at_rest());
    assert_eq!(are_there, [true; 2]);
    for subject in &subjects {
        subject.until_at_rest();
        subject.assert_idle();
    }
    drop(clients);
    Ok(())
}

/// Prints a line when the clients are connected, and then holds them until it is killed.
fn be_clients(addrs: &[SocketAddr]) {
    let mut clients = Vec::new();
    for (kind, addr) in Kind::BOTH.into_iter().zip(addrs) {
        for state in that_end(kind) {
            clients.extend((0..CLIENTS).map(|_| state.enter(*addr)));
        }
    }
    println!("there");
    let _ = io::stdin().read_line(&mut String::new());
}
