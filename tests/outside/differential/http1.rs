//! HTTP/1, with or without TLS.

use proptest::strategy::Strategy;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    compare::{Tally, Version},
    play::{Seen, play},
    script::{LIMIT, MIB, Script, Then, scripts},
};

pub(crate) struct Http1;

impl Version for Http1 {
    type Script = Script;
    type Seen = Seen;

    const ALPN: Option<&'static [u8]> = None;

    fn scripts() -> impl Strategy<Value = Script> {
        scripts()
    }

    async fn play<T>(script: &Script, socket: T, _: Option<&Seen>) -> Seen
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        play(script, socket).await
    }

    fn difference(script: &Script, ours: &Seen, nginxs: &Seen) -> Option<&'static str> {
        difference(script, ours, nginxs)
    }

    fn count(tally: &Tally, script: &Script, ours: &Seen, nginxs: &Seen) {
        let refused = script.is_refused();
        Tally::add(&tally.accepted, usize::from(!refused));
        Tally::add(&tally.refused, usize::from(refused));
        let behind = refused && ours.answers.len() > 1;
        Tally::add(&tally.served_behind, usize::from(behind));
        Tally::add(&tally.by_nginx, nginxs.answers.len());
        Tally::add(&tally.nginx_lost, usize::from(nginxs.answers.is_empty()));
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
    let owed = owed(script, nginxs_statuses.len());
    if our_statuses.len() < owed && !is_lost_beneath_tls(script, ours) {
        return Some("an answer is missing");
    }
    let counted = ours.answers.first().and_then(|answer| answer.counted);
    if our_statuses.first() == Some(&200) && counted != Some(script.length) {
        return Some("not all of the body was read");
    }
    if ours.write_error.is_some() {
        return Some("a write failed");
    }
    if matches!(ours.end, Some(Err(_))) && !may_end_without_notice(script, ours, nginxs) {
        return Some("the end is not clean");
    }
    let is_kept = !script.is_refused() && script.then != Then::Close && !script.half_close;
    if is_kept && ours.end.is_some() {
        return Some("a connection was not kept");
    }
    None
}

/// Over TLS, an end of the connection without `close_notify`, which is no reset. nginx leaves
/// that out, too, once its client has sent its own. And hyper drops a connection whose
/// client it takes for gone (see [`owed`]): that of an upload within the limit, or that of the
/// request behind a refused one.
fn may_end_without_notice(script: &Script, ours: &Seen, nginxs: &Seen) -> bool {
    let is_accepted = !script.is_refused() || script.then == Then::Pipelined;
    let hyper_gives_up = script.half_close && is_accepted;
    ours.ends_without_notice() && (nginxs.ends_without_notice() || hyper_gives_up)
}

/// The one answer to a refused upload that may be lost, over TLS alone. While delivery takes a
/// rest in passing, it holds the answer back, and the hook hides the end of the client's side
/// from hyper. It cannot hide one that TLS reports, and hyper gives such a client up. What is
/// longer than the limit and a drain is answered at once.
fn is_lost_beneath_tls(script: &Script, ours: &Seen) -> bool {
    let is_held_back = script.length <= LIMIT + MIB;
    script.half_close && is_held_back && ours.answers.is_empty() && ours.ends_without_notice()
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
