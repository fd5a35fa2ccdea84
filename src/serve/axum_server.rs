//! axum-server: an acceptor that joins delivery and the hook, beneath its TLS.

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
    /// For the `acceptor` of axum-server: delivery and the hook, [joined](Self::join) on
    /// each connection.
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
    /// TLS goes around it, so that what comes late is discarded undecrypted:
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
    /// Its `Handle::shutdown` drops connections as they are, and these linger as well as
    /// they can; `Handle::graceful_shutdown` lets them finish. After either, wait for
    /// [`Linger::shutdown`].
    #[must_use]
    pub fn acceptor(&self) -> LingerAcceptor {
        self.used();
        LingerAcceptor {
            inner: DefaultAcceptor,
            linger: self.clone(),
        }
    }
}

/// What [`Linger::acceptor`] makes.
#[derive(Clone, Debug)]
pub struct LingerAcceptor<A = DefaultAcceptor> {
    inner: A,
    linger: Linger,
}

impl<A> LingerAcceptor<A> {
    /// Around another acceptor, one that sets `TCP_NODELAY` for example. None that
    /// buffers what is written: TLS goes around this one.
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
    type Future = LingerAccepting<A::Future>;

    fn accept(&self, stream: T, service: S) -> Self::Future {
        LingerAccepting {
            accepting: self.inner.accept(stream, service),
            linger: self.linger.clone(),
        }
    }
}

pin_project! {
    /// The future of [`LingerAcceptor`].
    #[derive(Debug)]
    pub struct LingerAccepting<F> {
        #[pin]
        accepting: F,
        linger: Linger,
    }
}

impl<F, T, S> Future for LingerAccepting<F>
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
