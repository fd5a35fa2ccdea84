//! The listeners of the app, with more or less of this crate.

use std::error::Error;
use std::fmt;
#[cfg(unix)]
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::{Path, PathBuf};

use axum::Router;
use axum::serve::Listener;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_bodyguard::{Linger, LingerIo};

use crate::flags::Flags;
use crate::http3;
use crate::tls::Tls;

/// The parts of this crate around the app.
#[derive(Clone, Copy)]
enum Parts {
    /// Delivery and linger combined.
    All,
    Hook,
    None,
}

impl Parts {
    fn of(flags: &Flags) -> Self {
        match (flags.plain, flags.hook_only) {
            (true, _) => Self::None,
            (_, true) => Self::Hook,
            _ => Self::All,
        }
    }
}

/// Serves until `stop`, and then until every connection has had its response.
pub(crate) async fn serve(
    flags: &Flags,
    app: Router,
    linger: &Linger,
    stop: &CancellationToken,
) -> Result<(), Box<dyn Error>> {
    let parts = Parts::of(flags);
    #[cfg(unix)]
    if let Some(path) = &flags.unix {
        let socket = UnixSocket::bind(path)?;
        announce(format_args!("unix:{}", path.display()))?;
        return Ok(by_axum(socket, app, parts, linger, stop).await?);
    }
    let listener = TcpListener::bind(flags.addr)
        .await
        .map_err(|e| cannot_listen(flags.addr, &e))?;
    let addr = listener.local_addr()?;
    if flags.tls {
        let tls = Tls::self_signed(addr.ip())?;
        if flags.http3 {
            return over_both(&tls, listener, addr, app, linger, stop).await;
        }
        announce(format_args!("https://{addr}"))?;
        over_tls(&tls, listener, app, parts, linger, stop).await;
        return Ok(());
    }
    announce(format_args!("http://{addr}"))?;
    Ok(by_axum(listener, app, parts, linger, stop).await?)
}

fn cannot_listen(addr: SocketAddr, error: &io::Error) -> String {
    format!("cannot listen on {addr}: {error}; choose another --addr")
}

fn announce(url: fmt::Arguments<'_>) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on {url}")?;
    stdout.flush()
}

async fn by_axum<L>(
    listener: L,
    app: Router,
    parts: Parts,
    linger: &Linger,
    stop: &CancellationToken,
) -> io::Result<()>
where
    L: Listener<Addr: fmt::Debug>,
{
    let stopped = stop.clone().cancelled_owned();
    match parts {
        // `linger.on` also notifies the drains of the shutdown.
        Parts::All => {
            tower_bodyguard::axum::serve(listener, app)
                .with_linger(linger)
                .with_graceful_shutdown(linger.on(stopped))
                .await
        }
        Parts::Hook => {
            axum::serve(linger.listener(listener), app)
                .with_graceful_shutdown(stopped)
                .await
        }
        Parts::None => {
            axum::serve(listener, app)
                .with_graceful_shutdown(stopped)
                .await
        }
    }
}

async fn over_tls(
    tls: &Tls,
    listener: TcpListener,
    app: Router,
    parts: Parts,
    linger: &Linger,
    stop: &CancellationToken,
) {
    match parts {
        Parts::All => {
            tokio::spawn(linger.on(stop.clone().cancelled_owned()));
            let joined = |socket| linger.wrap(socket, app.clone());
            tls.serve(listener, stop, joined).await;
        }
        Parts::Hook => {
            let hooked = |socket| (LingerIo::new(socket, linger), app.clone());
            tls.serve(listener, stop, hooked).await;
        }
        Parts::None => {
            let bare = |socket| (socket, app.clone());
            tls.serve(listener, stop, bare).await;
        }
    }
}

/// Serves TCP, and HTTP/3 on the same port over UDP.
async fn over_both(
    tls: &Tls,
    listener: TcpListener,
    addr: SocketAddr,
    app: Router,
    linger: &Linger,
    stop: &CancellationToken,
) -> Result<(), Box<dyn Error>> {
    let endpoint = http3::endpoint(tls, addr)?;
    announce(format_args!("https://{addr}"))?;
    let http3 = tower_bodyguard_h3::serve(endpoint, app.clone())
        .with_linger(linger)
        .with_graceful_shutdown(stop.clone().cancelled_owned());
    let app = app.layer(http3::advertised(addr)?);
    let over_tcp = over_tls(tls, listener, app, Parts::All, linger, stop);
    let (served, ()) = tokio::join!(http3.into_future(), over_tcp);
    Ok(served?)
}

/// A listener that removes its socket file on drop.
#[cfg(unix)]
struct UnixSocket {
    listener: tokio::net::UnixListener,
    path: PathBuf,
}

#[cfg(unix)]
impl UnixSocket {
    fn bind(path: &Path) -> Result<Self, String> {
        let listener = tokio::net::UnixListener::bind(path).map_err(|e| {
            format!(
                "cannot listen on {}: {e}; choose another --unix, or remove the file if nobody \
                 else listens there",
                path.display()
            )
        })?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }
}

#[cfg(unix)]
impl Drop for UnixSocket {
    fn drop(&mut self) {
        // The file may already have been removed.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(unix)]
impl Listener for UnixSocket {
    type Io = tokio::net::UnixStream;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        Listener::accept(&mut self.listener).await
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
