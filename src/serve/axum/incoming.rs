use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    net::SocketAddr,
    task::{Context, Poll},
};

use axum::{
    Router, extract::connect_info::Connected, handler::HandlerService, routing::MethodRouter,
    serve::Listener,
};
use tower_service::Service;

use super::router::ConnectionRouter;

/// A connection that [`serve`](super::serve) has accepted.
///
/// A service that makes a service for each connection is called with it, and a custom [`Connected`]
/// takes its information from it. axum's own `IncomingStream` can be created by `axum::serve` only.
/// `ConnectInfo<SocketAddr>` works without any code, for every listener whose `Addr` is a
/// `SocketAddr`.
///
/// ```
/// use axum::{Router, extract::{ConnectInfo, connect_info::Connected}, routing::get};
/// use tokio::net::UnixListener;
/// use tower_bodyguard::axum::IncomingStream;
///
/// #[derive(Clone)]
/// struct Uid(u32);
///
/// impl Connected<IncomingStream<'_, UnixListener>> for Uid {
///     fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
///         Self(stream.io().peer_cred().map_or(u32::MAX, |peer| peer.uid()))
///     }
/// }
///
/// # async fn run() -> std::io::Result<()> {
/// let app = Router::new()
///     .route("/", get(|ConnectInfo(Uid(uid)): ConnectInfo<Uid>| async move { uid.to_string() }))
///     .into_make_service_with_connect_info::<Uid>();
/// tower_bodyguard::axum::serve(UnixListener::bind("/run/app.socket")?, app).await
/// # }
/// ```
pub struct IncomingStream<'a, L: Listener> {
    pub(super) io: &'a L::Io,
    pub(super) remote_addr: L::Addr,
}

impl<L: Listener> IncomingStream<'_, L> {
    /// Returns the socket that the listener has accepted.
    #[must_use]
    pub fn io(&self) -> &L::Io {
        self.io
    }

    /// Returns the address of the client.
    #[must_use]
    pub fn remote_addr(&self) -> &L::Addr {
        &self.remote_addr
    }
}

impl<L: Listener<Addr: fmt::Debug>> fmt::Debug for IncomingStream<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingStream")
            .field("remote_addr", &self.remote_addr)
            .finish_non_exhaustive()
    }
}

impl<L: Listener<Addr = Self>> Connected<IncomingStream<'_, L>> for SocketAddr {
    fn connect_info(stream: IncomingStream<'_, L>) -> Self {
        stream.remote_addr
    }
}

impl<L: Listener> Service<IncomingStream<'_, L>> for Router<()> {
    type Response = ConnectionRouter;
    type Error = Infallible;
    type Future = Ready<Result<ConnectionRouter, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    /// Gives the router its state, because it makes its layers anew for each request otherwise.
    fn call(&mut self, _stream: IncomingStream<'_, L>) -> Self::Future {
        let router = self.clone().with_state(());
        ready(Ok(ConnectionRouter::new(router)))
    }
}

impl<L: Listener> Service<IncomingStream<'_, L>> for MethodRouter<()> {
    type Response = Self;
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _stream: IncomingStream<'_, L>) -> Self::Future {
        ready(Ok(self.clone().with_state(())))
    }
}

impl<H, T, S, L> Service<IncomingStream<'_, L>> for HandlerService<H, T, S>
where
    H: Clone,
    S: Clone,
    L: Listener,
{
    type Response = Self;
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _stream: IncomingStream<'_, L>) -> Self::Future {
        ready(Ok(self.clone()))
    }
}
