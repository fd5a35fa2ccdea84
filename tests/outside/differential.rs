//! Plays random clients to the upload form and to nginx with the same limit. The form refuses what
//! nginx refuses, loses no response that nginx delivers, and no client's write fails. The clients
//! use TCP, TLS, and HTTP/2 over TLS.
//!
//! `SCRIPTS` sets the number of scripts, and `CLIENTS` how many are played concurrently. `SEED`
//! draws the same scripts again, and `SCRIPT` plays a single one of them. A failure prints both. As
//! a negative control, scripts of the same kind must fail with `--plain`.

mod compare;
mod http1;
mod http2;
mod nginx;
mod play;
mod script;

use libtest_mimic::Failed;

use testkit::outside::{Form, Trial, trial};

use self::{
    compare::{Effort, Version, compare},
    http1::Http1,
    http2::Http2,
    nginx::Nginx,
    script::LIMIT,
};

const COMPARISON: Effort = Effort {
    scripts: 100,
    shrinks: 100,
};

/// One difference is enough.
const CONTROL: Effort = Effort {
    scripts: 1000,
    shrinks: 0,
};

const TLS: &str = "--tls";
const HOOK: &str = "--hook-only";
/// For HTTP/2 only: with this, a client that cannot stop is read to its end on the slowest machine.
const PATIENT: [&str; 2] = ["--stream-linger", "60s"];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        fares::<Http1>("over_tcp_with_all_parts", &[]),
        fares::<Http1>("over_tcp_with_the_wrapper_alone", &[HOOK]),
        fares::<Http1>("over_tls_with_all_parts", &[TLS]),
        fares::<Http1>("over_tls_with_the_wrapper_alone", &[TLS, HOOK]),
        fares::<Http2>("by_http2_with_all_parts", &[&[TLS], &PATIENT[..]].concat()),
        does_not::<Http1>("over_tcp", &[]),
        does_not::<Http1>("over_tls", &[TLS]),
        does_not::<Http2>("by_http2", &[TLS]),
    ]
}

fn played<V: Version>(flags: &[&str], effort: Effort) -> Result<(), Failed> {
    let limit = LIMIT.to_string();
    let form = Form::start(&[&["--limit", &limit], flags].concat());
    compare::<V>(&form, &Nginx::start(), flags.contains(&TLS), effort)
}

fn fares<V: Version>(served: &str, flags: &[&'static str]) -> Trial {
    let flags = flags.to_vec();
    trial(
        format!("{served}_it_fares_as_nginx_does"),
        &[nginx::need()],
        move || played::<V>(&flags, COMPARISON),
    )
}

/// Tests that the same comparison finds a difference in a server that resets.
fn does_not<V: Version>(served: &str, flags: &[&'static str]) -> Trial {
    let flags = [flags, &["--plain"]].concat();
    trial(
        format!("{served}_without_this_crate_it_does_not"),
        &[nginx::need()],
        move || match played::<V>(&flags, CONTROL) {
            Err(_) => Ok(()),
            Ok(()) => Err("no difference".into()),
        },
    )
}
