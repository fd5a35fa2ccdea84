use std::io;

use axum::serve::{Listener, ListenerExt, TapIo};

use super::accept::accept;
use crate::linger::{Linger, LingerIo};

/// What [`LingerExt::linger`] yields: a [`LingerListener`] in axum's own
/// [`TapIo`], whose closure does nothing.
///
/// It is there because axum implements
/// [`Connected`](axum::extract::connect_info::Connected) for its own listener
/// types only: in this one, `ConnectInfo<SocketAddr>` goes on working. A `Connected` of
/// one's own is implemented for `IncomingStream<'_, LingerListener<L>>`, and the
/// [`LingerListener`] given to axum itself, or to
/// [`Linger::serve_connected`](crate::Linger::serve_connected).
pub type Lingering<L> = TapIo<LingerListener<L>, fn(&mut LingerIo<<L as Listener>::Io>)>;

/// `.linger()` on axum's listeners.
pub trait LingerExt: Listener + Sized {
    /// Lets the clients of this listener read their answers, with the default
    /// bounds. See [`Linger`] for what that means.
    ///
    /// ```no_run
    /// use axum::{Router, routing::post};
    /// use tower_bodyguard::LingerExt;
    ///
    /// # async fn run() -> std::io::Result<()> {
    /// let app = Router::new().route("/", post(|body: String| async { body }));
    /// let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
    /// axum::serve(listener.linger(), app).await
    /// # }
    /// ```
    fn linger(self) -> Lingering<Self> {
        self.linger_with(&Linger::default())
    }

    /// As [`linger`](Self::linger), with bounds and counters of one's own.
    ///
    /// ```no_run
    /// use std::{net::SocketAddr, time::Duration};
    /// use axum::{Router, extract::ConnectInfo, routing::get};
    /// use tower_bodyguard::{Linger, LingerConfig, LingerExt};
    ///
    /// # async fn run(listener: tokio::net::TcpListener) -> std::io::Result<()> {
    /// let linger = Linger::new(LingerConfig::new().timeout(Duration::from_secs(120)));
    /// let app = Router::new()
    ///     .route("/", get(|ConnectInfo(from): ConnectInfo<SocketAddr>| async move { from.to_string() }))
    ///     .into_make_service_with_connect_info::<SocketAddr>();
    /// axum::serve(listener.linger_with(&linger), app).await
    /// # }
    /// ```
    fn linger_with(self, linger: &Linger) -> Lingering<Self> {
        LingerListener::new(self, linger).tap_io(|_| {})
    }
}

impl<L: Listener> LingerExt for L {}

/// A listener whose connections linger when they are closed.
#[derive(Debug)]
pub struct LingerListener<L> {
    inner: L,
    linger: Linger,
    joined: bool,
}

impl<L> LingerListener<L> {
    /// Wraps a listener. [`LingerExt::linger_with`] does it with `ConnectInfo`.
    pub fn new(inner: L, linger: &Linger) -> Self {
        Self {
            inner,
            linger: linger.clone(),
            joined: false,
        }
    }

    /// Its connections are shared with delivery.
    pub(super) fn joined(inner: L, linger: &Linger) -> Self {
        Self {
            joined: true,
            ..Self::new(inner, linger)
        }
    }
}

impl<L: Listener> Listener for LingerListener<L> {
    type Io = LingerIo<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (io, addr) = accept(&mut self.inner, &self.linger).await;
        let io = LingerIo::new(io, &self.linger);
        let io = if self.joined { io.joined() } else { io };
        (io, addr)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}
