use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    extract::Request,
    response::Response,
    serve::{IncomingStream, Listener, ListenerExt, Serve},
};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{LingerListener, Lingering};
use crate::{
    connection::Connection,
    delivery::{Delivery, Drain, TrackedBody},
    linger::{Linger, LingerIo},
};

impl Linger {
    /// axum's own [`serve`](fn@axum::serve), with delivery and the hook joined on each
    /// connection: no early answer over HTTP/1 is lost, and connections that can be
    /// kept are kept.
    ///
    /// What it returns is axum's own [`Serve`], with its graceful shutdown.
    ///
    /// ```no_run
    /// use axum::{Router, routing::post};
    /// use tower_bodyguard::{BodyGuardLayer, Linger, MIB};
    ///
    /// # async fn run() -> std::io::Result<()> {
    /// let app = Router::new()
    ///     .route("/", post(|body: String| async { body }))
    ///     .layer(BodyGuardLayer::new(MIB));
    /// let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
    /// Linger::new().serve(listener, app).await
    /// # }
    /// ```
    pub fn serve<L, M, S>(
        &self,
        listener: L,
        make_service: M,
    ) -> Serve<Lingering<L>, Joined<M>, JoinedService<S>>
    where
        L: Listener,
        M: for<'a> Service<IncomingStream<'a, Lingering<L>>, Error = Infallible, Response = S>,
        S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
    {
        let listener = LingerListener::joined(listener, self);
        let listener = listener.tap_io((|_| {}) as fn(&mut LingerIo<L::Io>));
        let joined = Joined {
            inner: make_service,
            drain: self.drain_settings(),
        };
        axum::serve(listener, joined)
    }
}

/// Makes the service of each connection, joined with its socket.
#[derive(Clone, Debug)]
pub struct Joined<M> {
    inner: M,
    drain: Drain,
}

impl<'a, L, M> Service<IncomingStream<'a, Lingering<L>>> for Joined<M>
where
    L: Listener,
    M: Service<IncomingStream<'a, Lingering<L>>>,
{
    type Response = JoinedService<M::Response>;
    type Error = M::Error;
    type Future = JoinedFuture<M::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, stream: IncomingStream<'a, Lingering<L>>) -> Self::Future {
        let connection = stream.io().connection().cloned();
        JoinedFuture {
            service: self.inner.call(stream),
            drain: self.drain,
            connection,
        }
    }
}

pin_project! {
    /// The future of [`Joined`].
    #[derive(Debug)]
    pub struct JoinedFuture<F> {
        #[pin]
        service: F,
        drain: Drain,
        connection: Option<Arc<Connection>>,
    }
}

impl<F, S, E> Future for JoinedFuture<F>
where
    F: Future<Output = Result<S, E>>,
{
    type Output = Result<JoinedService<S>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let service = ready!(this.service.poll(cx))?;
        let service = AxumBodies(service);
        Poll::Ready(Ok(Delivery::joined(
            service,
            *this.drain,
            this.connection.take(),
        )))
    }
}

/// The service of one connection.
pub type JoinedService<S> = Delivery<AxumBodies<S>>;

/// Gives a service of axum its own body type.
#[derive(Clone, Debug)]
pub struct AxumBodies<S>(S);

impl<S> Service<Request<TrackedBody<Body>>> for AxumBodies<S>
where
    S: Service<Request>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<TrackedBody<Body>>) -> Self::Future {
        // A body that nobody follows needs no second box.
        self.0
            .call(request.map(|body| body.into_untracked().unwrap_or_else(Body::new)))
    }
}
