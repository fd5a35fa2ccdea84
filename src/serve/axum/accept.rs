//! Accepts connections, also when file descriptors run out.

use std::{
    any::{Any, TypeId},
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::{net::TcpListener, time::sleep};

use crate::linger::Linger;

/// The time that an evicted connection gets to be dropped.
const EVICTION: Duration = Duration::from_millis(1);

/// The pause before the next attempt to accept, if no connection lingers.
const PAUSE: Duration = Duration::from_millis(10);

/// The interval between checks for a free file descriptor. Only listeners that do not report when
/// there is none need these checks.
const PROBE: Duration = Duration::from_millis(50);

/// Accepts the next connection. axum's own `accept` hides its errors, and sleeps for a second when
/// file descriptors have run out. So this function polls tokio's listeners itself and evicts
/// lingering connections. It evicts one for each connection that cannot be accepted, and one more
/// to look for the next connection: Linux takes a file descriptor before it looks.
///
/// Any other listener, such as axum's `TapIo`, accepts by its own method. While it waits and
/// connections linger, one of them is evicted whenever no file descriptor is free.
pub(super) async fn accept<L: Listener>(listener: &mut L, linger: &Linger) -> (L::Io, L::Addr) {
    if !is_tokios(listener) {
        let mut accepting = pin!(listener.accept());
        let mut probing = pin!(probe(linger));
        return poll_fn(|cx| {
            let accepted = accepting.as_mut().poll(cx);
            if accepted.is_pending() {
                let never: Poll<()> = Pin::as_mut(&mut probing).poll(cx);
                debug_assert!(never.is_pending(), "it probes for as long as it is asked");
            }
            accepted
        })
        .await;
    }
    loop {
        match poll_fn(|cx| poll_tokios(listener, cx)).await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) if is_for_want_of_room(&error) => sleep(make_room(linger)).await,
            // The same as axum.
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Returns the address of the client if the listener is tokio's. The addresses of other listeners
/// may be something else.
pub(super) fn peer_addr<L: Listener>(addr: &L::Addr) -> Option<SocketAddr> {
    if TypeId::of::<L>() != TypeId::of::<TcpListener>() {
        return None;
    }
    let addr: &dyn Any = addr;
    addr.downcast_ref().copied()
}

/// Evicts a connection, unless an evicted one has not been dropped yet. Returns when to try again.
fn make_room(linger: &Linger) -> Duration {
    if linger.is_evicting() || linger.evict() {
        EVICTION
    } else {
        PAUSE
    }
}

/// Evicts connections whenever no file descriptor is free. Never returns, and does nothing without
/// lingering connections.
async fn probe(linger: &Linger) {
    loop {
        linger.lingering_any().await;
        sleep(match has_descriptor() {
            true => PROBE,
            false => make_room(linger),
        })
        .await;
    }
}

/// Returns whether a file descriptor is free.
#[cfg(unix)]
fn has_descriptor() -> bool {
    match std::fs::File::open("/dev/null") {
        Ok(_) => true,
        Err(error) => !is_for_want_of_room(&error),
    }
}

/// Windows has no limit of sockets for each process that could be checked beforehand.
#[cfg(not(unix))]
fn has_descriptor() -> bool {
    true
}

fn is_tokios<L: Listener>(listener: &L) -> bool {
    let listener: &dyn Any = listener;
    #[cfg(unix)]
    if listener.is::<UnixListener>() {
        return true;
    }
    listener.is::<TcpListener>()
}

fn poll_tokios<L: Listener>(
    listener: &mut L,
    cx: &mut Context<'_>,
) -> Poll<io::Result<(L::Io, L::Addr)>> {
    let listener: &mut dyn Any = listener;
    #[cfg(unix)]
    if let Some(listener) = listener.downcast_ref::<UnixListener>() {
        return listener.poll_accept(cx).map_ok(same);
    }
    match listener.downcast_ref::<TcpListener>() {
        Some(listener) => listener.poll_accept(cx).map_ok(same),
        None => Poll::Pending,
    }
}

/// Converts a value to `B`, which is its own type, as the type of its listener shows.
fn same<A: 'static, B: 'static>(value: A) -> B {
    let mut value = Some(value);
    let any: &mut dyn Any = &mut value;
    let same = any.downcast_mut::<Option<B>>().and_then(Option::take);
    same.expect("it is what its listener accepts")
}

/// Returns whether resources have run out: file descriptors, or memory for sockets.
fn is_for_want_of_room(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    error.kind() == io::ErrorKind::OutOfMemory || code.is_some_and(|code| WANT.contains(&code))
}

/// `ENFILE` and `EMFILE`, which have the same numbers on every Unix, and `ENOBUFS` (accept(2)).
#[cfg(any(target_os = "linux", target_os = "android"))]
const WANT: [i32; 3] = [23, 24, 105];
/// The same. macOS and the BSDs have another number for `ENOBUFS`.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
const WANT: [i32; 3] = [23, 24, 55];
/// `WSAEMFILE` and `WSAENOBUFS` (Windows Sockets Error Codes).
#[cfg(windows)]
const WANT: [i32; 2] = [10024, 10055];
#[cfg(not(any(unix, windows)))]
const WANT: [i32; 0] = [];

/// Returns whether a client has left before it was accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
