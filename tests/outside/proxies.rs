//! The upload form behind nginx and `HAProxy`. Each of several refused uploads (`TRIES`, 10 if not
//! set) gets the form's own text and not a 502. In between, the same proxy forwards uploads within
//! the limit.
//!
//! As a negative control, the same proxies lose responses with `--plain`.

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

/// How many uploads without this crate are tried until a response is lost. It rarely takes more
/// than three.
const UNTIL_LOST: usize = 200;

struct Refusal {
    name: &'static str,
    flags: &'static [&'static str],
    status: &'static str,
    /// Text that identifies a response as the form's, and not a proxy's.
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
        words: "A token is needed to upload here",
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
    if !Kind::haproxy_drains() {
        trials.push(own_413_lost(&files));
    }
    trials.push(in_service(&files));
    trials.push(out_of_service_without(&files));
    trials
}

fn tries() -> usize {
    env::var("TRIES").map_or(10, |tries| tries.parse().expect("a number"))
}

/// Tests that every refusal arrives. In between, uploads succeed through the same proxy, which may
/// keep its connections.
fn refused(files: &Arc<Files>, kind: Kind, refusal: &'static Refusal, shape: Shape) -> Trial {
    let name = format!("{}_{}_{}", kind.name(), refusal.name, shape.name());
    let needs = [kind.need(), shape.need(), Need::program("curl")];
    let files = Arc::clone(files);
    trial(name, &needs, move || {
        let form = Form::start(refusal.flags);
        let proxy = Proxy::start(kind, &[form.addr()]);
        let url = proxy.url();
        for n in 0..tries() {
            let response = shape.send(&url, &files.large)?;
            if !response.has(refusal.status, refusal.words) {
                return Err(format!("try {n}: {response:?}\n{}", proxy.said()).into());
            }
            let response = send_small(&url, &files.small)?;
            if !response.has("200", "") {
                return Err(format!("after try {n}: {response:?}\n{}", proxy.said()).into());
            }
        }
        Ok(())
    })
}

/// Without this crate, the client gets a 502, or a reset instead of a response.
fn lost_without(files: &Arc<Files>, kind: Kind) -> Trial {
    let name = format!("{}_loses_responses_without_this_crate", kind.name());
    let files = Arc::clone(files);
    let shapes = [Shape::Raw, Shape::Form, Shape::SentFirst];
    let mut needs = shapes.map(Shape::need).to_vec();
    needs.push(kind.need());
    trial(name, &needs, move || {
        let form = Form::start(PLAIN);
        let proxy = Proxy::start(kind, &[form.addr()]);
        for n in 0..UNTIL_LOST {
            match shapes[n % shapes.len()].send(&proxy.url(), &files.large) {
                Ok(response) if response.has("413", "") => {}
                Ok(response) if response.has("502", "") => return Ok(()),
                Ok(response) => return Err(format!("neither 413 nor 502: {response:?}").into()),
                Err(failed) if is_reset(&failed) => return Ok(()),
                Err(failed) => return Err(failed),
            }
        }
        Err(format!("{UNTIL_LOST} of {UNTIL_LOST} arrived").into())
    })
}

/// Returns whether pages are still served after this many refused uploads. With more than one
/// server, nginx counts a lost response against the server that sent it (`max_fails`, 1 by
/// default), and sends that server no request for 10 s.
fn two_servers(files: &Files, flags: &[&str], uploads: usize) -> Result<bool, Failed> {
    let forms = [Form::start(flags), Form::start(flags)];
    let proxy = Proxy::start(Kind::NginxBare, &[forms[0].addr(), forms[1].addr()]);
    let url = proxy.url();
    for _ in 0..uploads {
        Shape::Form.send(&url, &files.large)?;
        // Two requests, because the servers take turns.
        for _ in 0..2 {
            if !get(&url)?.has("200", "") {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Tests how the proxy's first response begins for a client that waits for one before it sends an
/// upload that the form refuses.
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

/// nginx lingers after its own 413.
fn own_413(files: &Arc<Files>) -> Trial {
    let kind = Kind::NginxLimited;
    let needs = [kind.need(), Shape::SentFirst.need()];
    let files = Arc::clone(files);
    trial("nginx_delivers_its_own_413", &needs, move || {
        let form = Form::start(REFUSALS[0].flags);
        let proxy = Proxy::start(kind, &[form.addr()]);
        for n in 0..tries() {
            let response = Shape::SentFirst.send(&proxy.url(), &files.large)?;
            if !response.has("413", "") {
                return Err(format!("try {n}: {response:?}").into());
            }
        }
        Ok(())
    })
}

/// `HAProxy` below 3.0 closes after its own 413.
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
                Ok(response) => return Err(format!("try {n}: {response:?}").into()),
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
