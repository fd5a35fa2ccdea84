//! Random clients, each played to the upload form and to nginx with the same limit: the
//! form refuses what nginx refuses, loses no answer that nginx delivers, and no client's
//! write fails.
//!
//! `SCRIPTS` says how many, 150 if not set. `SEED` has the same ones drawn again, and
//! `SCRIPT` plays one of them alone: what fails says both. With `--plain` scripts of the
//! same kind fail, so that the meter is known to measure.

mod support;

mod differential {
    pub(crate) mod nginx;
    pub(crate) mod play;
    pub(crate) mod script;
}

use std::{
    collections::hash_map::RandomState,
    env,
    hash::BuildHasher,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use libtest_mimic::{Arguments, Failed};
use proptest::strategy::ValueTree;

use differential::{
    nginx::{self, Nginx},
    play::{Seen, play},
    script::{LIMIT, Script, Then, draw},
};
use support::outside::{Form, trial};

/// At once. They wait more than they do.
const CLIENTS: usize = 4;

/// How often a script that fails is made smaller.
const SHRINKS: usize = 100;

fn main() {
    let served = [
        ("with_all_parts", &[][..]),
        ("with_the_hook_alone", &["--hook-only"]),
    ];
    let mut trials: Vec<_> = served
        .into_iter()
        .map(|(name, flags)| {
            trial(
                format!("{name}_it_fares_as_nginx_does"),
                &[nginx::need()],
                || as_nginx(flags),
            )
        })
        .collect();
    trials.push(trial(
        "without_this_crate_it_does_not",
        &[nginx::need()],
        without,
    ));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

fn seed() -> u64 {
    number("SEED").unwrap_or_else(|| RandomState::new().hash_one(0))
}

fn form(flags: &[&str]) -> Form {
    let limit = LIMIT.to_string();
    Form::start(&[&["--limit", &limit], flags].concat())
}

fn as_nginx(flags: &[&str]) -> Result<(), Failed> {
    let (form, nginx) = (form(flags), Nginx::start());
    let servers = Servers {
        form: form.addr(),
        nginx: nginx.addr,
    };
    let seed = seed();
    let scripts = match number("SCRIPT") {
        Some(script) => script..script + 1,
        None => 0..number("SCRIPTS").unwrap_or(150),
    };
    let next = AtomicU64::new(scripts.start);
    let failed = Mutex::new(None);
    let tally = Tally::default();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while failed.lock().unwrap().is_none() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if !scripts.contains(&number) {
                        break;
                    }
                    let difference = servers.play(&draw(seed, number).current(), &tally);
                    if let Err(difference) = difference {
                        failed.lock().unwrap().get_or_insert((number, difference));
                    }
                }
            });
        }
    });
    println!("SEED={seed}: {tally:?}");
    match failed.into_inner().unwrap() {
        None => Ok(()),
        Some((number, difference)) => {
            let smallest = servers.smallest(seed, number);
            Err(
                format!("{difference}\nSEED={seed} SCRIPT={number}; the smallest: {smallest}")
                    .into(),
            )
        }
    }
}

/// Only what the same oracle says of a server that resets.
fn without() -> Result<(), Failed> {
    let (form, nginx) = (form(&["--plain"]), Nginx::start());
    let servers = Servers {
        form: form.addr(),
        nginx: nginx.addr,
    };
    let seed = seed();
    let tally = Tally::default();
    let differs = |number| servers.play(&draw(seed, number).current(), &tally).is_err();
    match (0..1000).any(differs) {
        true => Ok(()),
        false => Err(format!("SEED={seed}: no difference").into()),
    }
}

/// How many were of a kind, so that it is seen what was tried.
#[derive(Debug, Default)]
struct Tally {
    accepted: AtomicUsize,
    refused: AtomicUsize,
    /// On the same connection, behind a refused one.
    served_behind: AtomicUsize,
    nginx_lost: AtomicUsize,
}

impl Tally {
    fn count(&self, script: &Script, ours: &Seen, nginxs: &Seen) {
        let count = |counter: &AtomicUsize, is: bool| {
            counter.fetch_add(usize::from(is), Ordering::Relaxed);
        };
        count(&self.accepted, !script.is_refused());
        count(&self.refused, script.is_refused());
        let behind = script.is_refused() && ours.answers.len() > 1;
        count(&self.served_behind, behind);
        count(&self.nginx_lost, nginxs.answers.is_empty());
    }
}

struct Servers {
    form: SocketAddr,
    nginx: SocketAddr,
}

impl Servers {
    /// `Err` says what was different.
    fn play(&self, script: &Script, tally: &Tally) -> Result<(), String> {
        let ours = play(script, self.form);
        let nginxs = play(script, self.nginx);
        tally.count(script, &ours, &nginxs);
        difference(script, &ours, &nginxs).map_or(Ok(()), |what| {
            Err(format!(
                "{what}\n{script:?}\nours: {ours:?}\nnginx: {nginxs:?}"
            ))
        })
    }

    /// One that fails as well, and is simpler.
    fn smallest(&self, seed: u64, number: u64) -> String {
        let mut tree = draw(seed, number);
        let mut smallest = format!("{:?}", tree.current());
        for _ in 0..SHRINKS {
            let fails = self.play(&tree.current(), &Tally::default()).is_err();
            if fails {
                smallest = format!("{:?}", tree.current());
            }
            let goes_on = if fails {
                tree.simplify()
            } else {
                tree.complicate()
            };
            if !goes_on {
                break;
            }
        }
        smallest
    }
}

/// What the form did worse, if anything.
fn difference(script: &Script, ours: &Seen, nginxs: &Seen) -> Option<&'static str> {
    let status = if script.is_refused() { 413 } else { 200 };
    let statuses = |seen: &Seen| -> Vec<_> {
        let answers = seen.answers.iter();
        answers.map(|answer| answer.status).collect()
    };
    let (our_statuses, nginxs_statuses) = (statuses(ours), statuses(nginxs));
    let is_another = |first: &u16| *first != status;
    if nginxs_statuses.first().is_some_and(is_another) {
        return Some("nginx says something else than the limit does");
    }
    if our_statuses.first().is_some_and(is_another) {
        return Some("another status");
    }
    let behind = our_statuses.get(1);
    if behind.is_some_and(|behind| *behind != 200) {
        return Some("the second request is refused");
    }
    if our_statuses.len() < owed(script, nginxs_statuses.len()) {
        return Some("an answer is missing");
    }
    let counted = ours.answers.first().and_then(|answer| answer.counted);
    if our_statuses.first() == Some(&200) && counted != Some(script.length) {
        return Some("not all of the body was read");
    }
    if ours.write_error.is_some() {
        return Some("a write failed");
    }
    if matches!(ours.end, Some(Err(_))) {
        return Some("the end is not clean");
    }
    let is_kept = !script.is_refused() && script.then != Then::Close && !script.half_close;
    if is_kept && ours.end.is_some() {
        return Some("a connection was not kept");
    }
    None
}

/// How many answers there have to be: the first, and whatever nginx answers. One
/// exception, which is hyper's: where a request is being served, it takes a client that
/// closes its sending side for gone, unless its `half_close` says otherwise, which
/// axum's `serve` does not. A refusal is owed all the same.
fn owed(script: &Script, by_nginx: usize) -> usize {
    match script.half_close {
        true => usize::from(script.is_refused()),
        false => by_nginx.max(1),
    }
}
