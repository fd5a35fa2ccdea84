use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    response::Response,
    serve::{IncomingStream, Listener, ListenerExt, Serve},
};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{LingerListener, Lingering, bodies::own};
use crate::{
    delivery::{DeliveredBody, Delivery, ResponseFuture, TrackedBody},
    linger::{Linger, LingerIo},
    shared::connection::Connection,
};

impl Linger {
    /// axum's own [`serve`](fn@axum::serve), with delivery and the hook joined on each
    /// connection: within the bounds no early answer over HTTP/1 is lost, and
    /// connections that can be kept are kept.
    ///
    /// It takes the listener itself: one that `.linger()` has wrapped would linger
    /// twice, and on every close.
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
    ///     .layer(BodyGuardLayer::new(MIB).for_axum());
    /// let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
    /// Linger::default().serve(listener, app).await
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics in a tokio runtime without timers.
    #[track_caller]
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
        axum::serve(listener, self.joining(make_service))
    }

    /// As [`serve`](Self::serve), for an app with a
    /// [`Connected`](axum::extract::connect_info::Connected) of its own. axum's types leave
    /// no room for one beside `ConnectInfo<SocketAddr>`, which there is none of here.
    ///
    /// ```no_run
    /// use axum::{Router, extract::{ConnectInfo, connect_info::Connected}, routing::get};
    /// use axum::serve::IncomingStream;
    /// use tokio::net::UnixListener;
    /// use tower_bodyguard::{Linger, serve::LingerListener};
    ///
    /// #[derive(Clone)]
    /// struct Peer(u32);
    ///
    /// impl Connected<IncomingStream<'_, LingerListener<UnixListener>>> for Peer {
    ///     fn connect_info(stream: IncomingStream<'_, LingerListener<UnixListener>>) -> Self {
    ///         let socket = stream.io().get_ref();
    ///         Self(socket.peer_cred().map_or(u32::MAX, |peer| peer.uid()))
    ///     }
    /// }
    ///
    /// # async fn run() -> std::io::Result<()> {
    /// let app = Router::new()
    ///     .route("/", get(|ConnectInfo(peer): ConnectInfo<Peer>| async move { peer.0.to_string() }))
    ///     .into_make_service_with_connect_info::<Peer>();
    /// let listener = UnixListener::bind("/run/app.socket")?;
    /// Linger::default().serve_connected(listener, app).await
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics in a tokio runtime without timers.
    #[track_caller]
    pub fn serve_connected<L, M, S>(
        &self,
        listener: L,
        make_service: M,
    ) -> Serve<LingerListener<L>, Joined<M>, JoinedService<S>>
    where
        L: Listener,
        M: for<'a> Service<IncomingStream<'a, LingerListener<L>>, Error = Infallible, Response = S>,
        S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
    {
        let listener = LingerListener::joined(listener, self);
        axum::serve(listener, self.joining(make_service))
    }

    #[track_caller]
    fn joining<M>(&self, make_service: M) -> Joined<M> {
        self.check_timers();
        Joined {
            inner: make_service,
            linger: self.clone(),
        }
    }
}

/// Makes the service of each connection, joined with its socket.
#[derive(Clone, Debug)]
pub struct Joined<M> {
    inner: M,
    linger: Linger,
}

impl<'a, L, M, T> Service<IncomingStream<'a, L>> for Joined<M>
where
    L: Listener<Io = LingerIo<T>>,
    M: Service<IncomingStream<'a, L>>,
{
    type Response = JoinedService<M::Response>;
    type Error = M::Error;
    type Future = JoinedFuture<M::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, stream: IncomingStream<'a, L>) -> Self::Future {
        let connection = stream.io().connection().cloned();
        JoinedFuture {
            service: self.inner.call(stream),
            linger: self.linger.clone(),
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
        linger: Linger,
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
        let delivery = this.linger.layer().layer(AxumBodies(service));
        Poll::Ready(Ok(JoinedService(delivery.joined(this.connection.take()))))
    }
}

/// The service of one connection: delivery, with axum's own bodies on both sides.
#[derive(Clone, Debug)]
pub struct JoinedService<S>(Delivery<AxumBodies<S>>);

impl<S> Service<Request> for JoinedService<S>
where
    S: Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = JoinedResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let delivery = match request.body().is_end_stream() {
            // It need not be wrapped to be unwrapped.
            true => {
                self.0.note_bodiless(&request);
                self.0.pass(|AxumBodies(app)| app.call(request))
            }
            false => self.0.call(request),
        };
        JoinedResponseFuture { delivery }
    }
}

pin_project! {
    /// The future of [`JoinedService`]'s responses.
    #[derive(Debug)]
    pub struct JoinedResponseFuture<F> {
        #[pin]
        delivery: ResponseFuture<F, Body, Body>,
    }
}

impl<F, E> Future for JoinedResponseFuture<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().delivery.poll(cx))?;
        Poll::Ready(Ok(response.map(|body| own(body, DeliveredBody::into_plain))))
    }
}

/// Gives a service of axum its own body type.
#[derive(Clone, Debug)]
struct AxumBodies<S>(S);

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
        self.0
            .call(request.map(|body| own(body, TrackedBody::into_untracked)))
    }
}
