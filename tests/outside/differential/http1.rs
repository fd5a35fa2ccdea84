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
        let behind = refused && ours.responses.len() > 1;
        Tally::add(&tally.served_behind, usize::from(behind));
        Tally::add(&tally.by_nginx, nginxs.responses.len());
        Tally::add(&tally.nginx_lost, usize::from(nginxs.responses.is_empty()));
    }
}

/// Returns what the form did worse, if anything.
fn difference(script: &Script, ours: &Seen, nginxs: &Seen) -> Option<&'static str> {
    let status = if script.is_refused() { 413 } else { 200 };
    let statuses = |seen: &Seen| -> Vec<_> {
        let responses = seen.responses.iter();
        responses.map(|response| response.status).collect()
    };
    let (our_statuses, nginxs_statuses) = (statuses(ours), statuses(nginxs));
    let is_another = |first: &u16| *first != status;
    if nginxs_statuses.first().is_some_and(is_another) {
        return Some("nginx's status does not match the limit");
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
        return Some("a response is missing");
    }
    let counted = ours.responses.first().and_then(|response| response.counted);
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

/// Returns whether the connection may end without `close_notify`, which is no reset. This concerns
/// TLS only. nginx sends none either once its client has sent its own. hyper drops a connection
/// whose client it believes to be gone (see [`owed`]): in an upload within the limit, or in the
/// request after a refused one.
fn may_end_without_notice(script: &Script, ours: &Seen, nginxs: &Seen) -> bool {
    let is_accepted = !script.is_refused() || script.then == Then::Pipelined;
    let hyper_gives_up = script.half_close && is_accepted;
    ours.ends_without_notice() && (nginxs.ends_without_notice() || hyper_gives_up)
}

/// Returns whether the response to a refused upload may be lost, which happens only over TLS. While
/// delivery takes a remaining body without a task, it holds the response back, and `LingerIo` hides
/// the client's FIN from hyper. It cannot hide an end that TLS reports, so hyper gives up such a
/// client. If the body exceeds limit and drain together, the response is immediate.
fn is_lost_beneath_tls(script: &Script, ours: &Seen) -> bool {
    let is_held_back = script.length <= LIMIT + MIB;
    script.half_close && is_held_back && ours.responses.is_empty() && ours.ends_without_notice()
}

/// Returns how many responses are owed: the first, and those that nginx sends. hyper makes one
/// exception. While a request is served, it takes a client that closes its sending side for gone,
/// unless its `half_close` is set. axum's `serve` does not set it. A refusal is owed all the same.
fn owed(script: &Script, by_nginx: usize) -> usize {
    match script.half_close {
        true => usize::from(script.is_refused()),
        false => by_nginx.max(1),
    }
}
