//! Accepting, where descriptors run out.

use std::{
    any::Any,
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::{net::TcpListener, time::sleep};

use crate::linger::Linger;

/// How many lingering connections give way to one that cannot be accepted: the next will
/// need a descriptor, too.
const AT_ONCE: usize = 8;

/// For descriptors to be given back, by lingers or by anybody else.
const PAUSE: Duration = Duration::from_millis(10);

/// The next connection. axum's own `accept` keeps its errors to itself, and sleeps for a
/// second where descriptors have run out; so tokio's listeners are asked here instead,
/// and connections that only linger are let go of.
pub(super) async fn accept<L: Listener>(listener: &mut L, linger: &Linger) -> (L::Io, L::Addr) {
    if !is_tokios(listener) {
        return listener.accept().await;
    }
    loop {
        match poll_fn(|cx| poll_tokios(listener, cx)).await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) if is_for_want_of_room(&error) => {
                for _ in 0..AT_ONCE {
                    if !linger.give_way() {
                        break;
                    }
                }
                sleep(PAUSE).await;
            }
            // As axum has it.
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
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

/// A value whose type is `B` by what is known of its listener.
fn same<A: 'static, B: 'static>(value: A) -> B {
    let mut value = Some(value);
    let any: &mut dyn Any = &mut value;
    let same = any.downcast_mut::<Option<B>>().and_then(Option::take);
    same.expect("it is what its listener accepts")
}

/// `EMFILE` and `ENFILE`, which have the same numbers on every Unix, and `ENOMEM`
/// (accept(2)).
fn is_for_want_of_room(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    error.kind() == io::ErrorKind::OutOfMemory
        || matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// A client that has left before it was accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
