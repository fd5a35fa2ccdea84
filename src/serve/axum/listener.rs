use std::io;

use axum::serve::{Listener, ListenerExt, TapIo};

use super::accept::accept;
use crate::linger::{Linger, LingerIo, assert_not_wrapped};

/// An axum listener with the socket wrapper alone, which [`Linger::listener`] returns.
///
/// It is a [`LingerListener`] in axum's own [`TapIo`], whose closure does nothing. axum implements
/// [`Connected`](axum::extract::connect_info::Connected) for its own listener types only, so
/// `ConnectInfo<SocketAddr>` works with this type. For a custom `Connected`, implement it for
/// `IncomingStream<'_, LingerListener<L>>`, and pass the [`LingerListener`] itself to axum.
pub type TappedListener<L> = TapIo<LingerListener<L>, fn(&mut LingerIo<<L as Listener>::Io>)>;

impl Linger {
    /// Wraps the sockets of a listener, for `axum::serve`, with the socket wrapper alone.
    ///
    /// Clients can read early responses. But no connection is kept after a response whose request
    /// body is unread, and each connection that the server closes lingers. [`serve`](super::serve)
    /// also has delivery.
    ///
    /// ```no_run
    /// use axum::{Router, routing::post};
    /// use tower_bodyguard::Linger;
    ///
    /// # async fn run() -> std::io::Result<()> {
    /// let linger = Linger::default();
    /// let app = Router::new().route("/", post(|body: String| async { body }));
    /// let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
    /// axum::serve(linger.listener(listener), app).await
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if the listener's sockets are wrapped already.
    #[track_caller]
    pub fn listener<L: Listener>(&self, listener: L) -> TappedListener<L> {
        LingerListener::new(listener, self).tap_io(|_| {})
    }
}

/// A listener whose connections linger when they are closed.
#[derive(Debug)]
pub struct LingerListener<L> {
    inner: L,
    linger: Linger,
}

impl<L: Listener> LingerListener<L> {
    /// Wraps a listener. [`Linger::listener`] returns a listener that also supports `ConnectInfo`.
    ///
    /// # Panics
    ///
    /// Panics if the listener's sockets are wrapped already.
    #[track_caller]
    pub fn new(inner: L, linger: &Linger) -> Self {
        assert_not_wrapped::<L::Io>();
        linger.used();
        Self {
            inner,
            linger: linger.clone(),
        }
    }
}

impl<L: Listener> Listener for LingerListener<L> {
    type Io = LingerIo<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (io, addr) = accept(&mut self.inner, &self.linger).await;
        (LingerIo::new(io, &self.linger), addr)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}
