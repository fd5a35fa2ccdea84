//! The upload form behind nginx and `HAProxy`: each of so many refused uploads (`TRIES`, 10
//! if not set) is answered with the form's own words and not with a 502, and in between
//! the same proxy passes on what is within the limit.
//!
//! With `--plain` the same proxies lose answers, so that the meter is known to measure.

mod upload;

use std::{env, io::Write, path::PathBuf, sync::Arc};

use libtest_mimic::Failed;
use tempfile::TempDir;

use testkit::{
    SendFirst,
    client::{Framing, connect, read_head},
    outside::{Form, Need, Trial, file_of, trial},
    proxy::{Kind, Proxy},
};

use self::upload::{Shape, get, is_reset, send_small};

const MB_20: usize = 20_000_000;
const MB_3: usize = 3_000_000;

/// How many uploads without this crate are tried until an answer is lost: seldom more than
/// three are.
const UNTIL_LOST: usize = 200;

struct Refusal {
    name: &'static str,
    flags: &'static [&'static str],
    status: &'static str,
    /// By which it is known to be the form's, and no proxy's.
    words: &'static str,
}

const REFUSALS: [Refusal; 2] = [
    Refusal {
        name: "413",
        flags: &["--limit", "4MiB"],
        status: "413",
        words: "limit is 4 MiB",
    },
    Refusal {
        name: "401",
        flags: &["--limit", "4MiB", "--token", "open-sesame"],
        status: "401",
        words: "Only those who know the token may send here",
    },
];

const PLAIN: &[&str] = &["--limit", "4MiB", "--plain"];

struct Files {
    large: PathBuf,
    small: PathBuf,
    _folder: TempDir,
}

pub(crate) fn trials() -> Vec<Trial> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let files = Arc::new(Files {
        large: file_of(folder.path(), MB_20),
        small: file_of(folder.path(), MB_3),
        _folder: folder,
    });
    let mut trials = Vec::new();
    for kind in Kind::UNLIMITED {
        for refusal in &REFUSALS {
            for shape in Shape::ALL {
                trials.push(refused(&files, kind, refusal, shape));
            }
        }
        trials.push(lost_without(&files, kind));
    }
    trials.extend(
        [Kind::NginxBuffered, Kind::NginxUnbuffered]
            .map(|nginx| interim(nginx, "says_100_by_itself", "HTTP/1.1 100 ")),
    );
    trials.push(interim(
        Kind::Haproxy,
        "leaves_100_to_the_form",
        "HTTP/1.1 413 ",
    ));
    trials.push(own_413(&files));
    if !Kind::haproxy_reads_on() {
        trials.push(own_413_lost(&files));
    }
    trials.push(in_service(&files));
    trials.push(out_of_service_without(&files));
    trials
}

fn tries() -> usize {
    env::var("TRIES").map_or(10, |tries| tries.parse().expect("a number"))
}

/// Every refusal arrives, and between them uploads succeed over the same proxy, which may
/// keep their connections.
fn refused(files: &Arc<Files>, kind: Kind, refusal: &'static Refusal, shape: Shape) -> Trial {
    let name = format!("{}_{}_{}", kind.name(), refusal.name, shape.name());
    let needs = [kind.need(), shape.need(), Need::program("curl")];
    let files = Arc::clone(files);
    trial(name, &needs, move || {
        let form = Form::start(refusal.flags);
        let proxy = Proxy::start(kind, &[form.addr()]);
        let url = proxy.url();
        for n in 0..tries() {
            let answer = shape.send(&url, &files.large)?;
            if !answer.has(refusal.status, refusal.words) {
                return Err(format!("try {n}: {answer:?}\n{}", proxy.said()).into());
            }
            let answer = send_small(&url, &files.small)?;
            if !answer.has("200", "") {
                return Err(format!("after try {n}: {answer:?}\n{}", proxy.said()).into());
            }
        }
        Ok(())
    })
}

/// Without this crate: a 502, or a reset in the place of an answer.
fn lost_without(files: &Arc<Files>, kind: Kind) -> Trial {
    let name = format!("{}_loses_answers_without_this_crate", kind.name());
    let files = Arc::clone(files);
    let shapes = [Shape::Raw, Shape::Form, Shape::SentFirst];
    let mut needs = shapes.map(Shape::need).to_vec();
    needs.push(kind.need());
    trial(name, &needs, move || {
        let form = Form::start(PLAIN);
        let proxy = Proxy::start(kind, &[form.addr()]);
        for n in 0..UNTIL_LOST {
            match shapes[n % shapes.len()].send(&proxy.url(), &files.large) {
                Ok(answer) if answer.has("413", "") => {}
                Ok(answer) if answer.has("502", "") => return Ok(()),
                Ok(answer) => return Err(format!("neither 413 nor 502: {answer:?}").into()),
                Err(failed) if is_reset(&failed) => return Ok(()),
                Err(failed) => return Err(failed),
            }
        }
        Err(format!("{UNTIL_LOST} of {UNTIL_LOST} arrived").into())
    })
}

/// Whether pages are still served after so many uploads that are refused. Where nginx has
/// more than one server, a lost answer counts against the server that gave it (`max_fails`,
/// 1 by default), and nobody is sent there for 10 s.
fn two_servers(files: &Files, flags: &[&str], uploads: usize) -> Result<bool, Failed> {
    let forms = [Form::start(flags), Form::start(flags)];
    let proxy = Proxy::start(Kind::NginxBare, &[forms[0].addr(), forms[1].addr()]);
    let url = proxy.url();
    for _ in 0..uploads {
        Shape::Form.send(&url, &files.large)?;
        // Twice, for the servers take turns.
        for _ in 0..2 {
            if !get(&url)?.has("200", "") {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// How the proxy's first response begins, to a client that waits for one before it sends
/// what the form refuses.
fn interim(kind: Kind, does: &str, begins: &'static str) -> Trial {
    trial(
        format!("{}_{does}", kind.name()),
        &[kind.need()],
        move || {
            let form = Form::start(REFUSALS[0].flags);
            let proxy = Proxy::start(kind, &[form.addr()]);
            let upload = SendFirst::post("/raw", Framing::ContentLength, MB_20 as u64);
            let head = upload.header("Expect: 100-continue").head();
            let mut socket = connect(proxy.addr);
            socket.write_all(head.as_bytes())?;
            match read_head(&mut socket) {
                head if head.starts_with(begins) => Ok(()),
                head => Err(head.into()),
            }
        },
    )
}

/// nginx lingers after a 413 of its own.
fn own_413(files: &Arc<Files>) -> Trial {
    let kind = Kind::NginxLimited;
    let needs = [kind.need(), Shape::SentFirst.need()];
    let files = Arc::clone(files);
    trial("nginx_delivers_its_own_413", &needs, move || {
        let form = Form::start(REFUSALS[0].flags);
        let proxy = Proxy::start(kind, &[form.addr()]);
        for n in 0..tries() {
            let answer = Shape::SentFirst.send(&proxy.url(), &files.large)?;
            if !answer.has("413", "") {
                return Err(format!("try {n}: {answer:?}").into());
            }
        }
        Ok(())
    })
}

/// `HAProxy` below 3.0 closes.
fn own_413_lost(files: &Arc<Files>) -> Trial {
    let kind = Kind::HaproxyLimited;
    let needs = [kind.need(), Shape::SentFirst.need()];
    let files = Arc::clone(files);
    trial("haproxy_2_loses_its_own_413", &needs, move || {
        let form = Form::start(REFUSALS[0].flags);
        let proxy = Proxy::start(kind, &[form.addr()]);
        for n in 0..tries() {
            match Shape::SentFirst.send(&proxy.url(), &files.large) {
                Err(failed) if is_reset(&failed) => {}
                Err(failed) => return Err(failed),
                Ok(answer) => return Err(format!("try {n}: {answer:?}").into()),
            }
        }
        Ok(())
    })
}

fn in_service(files: &Arc<Files>) -> Trial {
    let name = "nginx_keeps_both_servers_in_service";
    let needs = [Kind::NginxBare.need(), Need::program("curl")];
    let files = Arc::clone(files);
    trial(name, &needs, move || {
        match two_servers(&files, REFUSALS[0].flags, tries())? {
            true => Ok(()),
            false => Err("a page is not served".into()),
        }
    })
}

fn out_of_service_without(files: &Arc<Files>) -> Trial {
    let name = "nginx_takes_both_servers_out_of_service_without_this_crate";
    let needs = [Kind::NginxBare.need(), Need::program("curl")];
    let files = Arc::clone(files);
    trial(name, &needs, move || {
        match two_servers(&files, PLAIN, UNTIL_LOST)? {
            true => Err("every page is served".into()),
            false => Ok(()),
        }
    })
}
