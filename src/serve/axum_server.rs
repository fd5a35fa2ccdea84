//! Support for axum-server: an acceptor that combines delivery and the socket wrapper, beneath
//! axum-server's TLS.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum_server::accept::{Accept, DefaultAcceptor};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    delivery::Delivery,
    linger::{Linger, LingerIo},
};

impl Linger {
    /// Returns an acceptor for axum-server. It [combines](Self::wrap) delivery and the socket
    /// wrapper on each connection.
    ///
    /// ```no_run
    /// use axum::{Router, routing::post};
    /// use tower_bodyguard::Linger;
    ///
    /// # async fn run() -> std::io::Result<()> {
    /// let linger = Linger::default();
    /// let app = Router::new().route("/", post(|body: String| async { body }));
    /// axum_server::bind("0.0.0.0:3000".parse::<std::net::SocketAddr>().unwrap())
    ///     .acceptor(linger.acceptor())
    ///     .serve(app.into_make_service())
    ///     .await
    /// # }
    /// ```
    ///
    /// Put TLS around it, so that late bytes are discarded without decryption:
    ///
    /// ```no_run
    /// use axum::{Router, routing::post};
    /// use axum_server::tls_rustls::RustlsConfig;
    /// use tower_bodyguard::Linger;
    ///
    /// # async fn run(config: RustlsConfig) -> std::io::Result<()> {
    /// let linger = Linger::default();
    /// let app = Router::new().route("/", post(|body: String| async { body }));
    /// axum_server::bind_rustls("0.0.0.0:3000".parse::<std::net::SocketAddr>().unwrap(), config)
    ///     .map(|tls| tls.acceptor(linger.acceptor()))
    ///     .serve(app.into_make_service())
    ///     .await
    /// # }
    /// ```
    ///
    /// axum-server's `Handle::shutdown` drops connections in their current state, and these linger
    /// as well as they can. Its `Handle::graceful_shutdown` lets them finish. After either, wait
    /// for [`Linger::shutdown`].
    #[must_use]
    pub fn acceptor(&self) -> LingerAcceptor {
        self.used();
        LingerAcceptor {
            inner: DefaultAcceptor,
            linger: self.clone(),
        }
    }
}

/// An acceptor whose connections linger and have delivery: see [`Linger::acceptor`].
#[derive(Clone, Debug)]
pub struct LingerAcceptor<A = DefaultAcceptor> {
    inner: A,
    linger: Linger,
}

impl<A> LingerAcceptor<A> {
    /// Wraps another acceptor, for example one that sets `TCP_NODELAY`. Do not wrap one that
    /// buffers writes: TLS goes around this acceptor.
    pub fn acceptor<T>(self, inner: T) -> LingerAcceptor<T> {
        LingerAcceptor {
            inner,
            linger: self.linger,
        }
    }
}

impl<A, T, S> Accept<T, S> for LingerAcceptor<A>
where
    A: Accept<T, S>,
    A::Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = LingerIo<A::Stream>;
    type Service = Delivery<A::Service>;
    type Future = LingerAcceptorFuture<A::Future>;

    fn accept(&self, stream: T, service: S) -> Self::Future {
        LingerAcceptorFuture {
            accepting: self.inner.accept(stream, service),
            linger: self.linger.clone(),
        }
    }
}

pin_project! {
    /// The future of [`LingerAcceptor`].
    #[derive(Debug)]
    pub struct LingerAcceptorFuture<F> {
        #[pin]
        accepting: F,
        linger: Linger,
    }
}

impl<F, T, S> Future for LingerAcceptorFuture<F>
where
    F: Future<Output = io::Result<(T, S)>>,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = io::Result<(LingerIo<T>, Delivery<S>)>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (stream, service) = ready!(this.accepting.poll(cx))?;
        Poll::Ready(Ok(this.linger.wrap(stream, service)))
    }
}
