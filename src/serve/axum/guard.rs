use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{DefaultBodyLimit, Request},
    response::Response,
    serve::{IncomingStream, Listener},
};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::bodies::own;
use crate::{
    BoxError,
    limit::{
        BodyGuard, BodyGuardLayer, GuardedBody, OnRefusal, PlainText, ResponseBody, ResponseFuture,
    },
};

impl<R> BodyGuardLayer<R> {
    /// The guard in axum's terms (feature `axum`), to be called last: with axum's own
    /// [`Body`] on both sides, which costs less, and with axum's default limit of 2 MB
    /// lifted, so that this one is what `Bytes`, `String`, `Json`, `Form` and `Multipart`
    /// admit.
    ///
    /// axum's `DefaultBodyLimit` bounds its extractors only, and answers with 413 or
    /// 400 in words of its own. One that is set inside of this guard, on a route,
    /// still holds.
    ///
    /// ```
    /// use axum::{Router, body::Bytes, routing::post};
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let app: Router = Router::new()
    ///     .route("/", post(|body: Bytes| async move { body.len().to_string() }))
    ///     .layer(BodyGuardLayer::new(100 * MIB).for_axum());
    /// ```
    #[must_use]
    pub fn for_axum(self) -> AxumGuardLayer<R> {
        AxumGuardLayer(self)
    }
}

/// A [`BodyGuardLayer`] in axum's terms, see [`BodyGuardLayer::for_axum`].
#[derive(Clone, Debug)]
pub struct AxumGuardLayer<R = PlainText>(BodyGuardLayer<R>);

impl<R: Clone> AxumGuardLayer<R> {
    /// The guard around a whole app, for `axum::serve` and
    /// [`Linger::serve`](crate::Linger::serve).
    ///
    /// It does what [`Router::layer`](axum::Router::layer) does with it, before the app has
    /// looked for a route, and without what axum takes for a layer: a box around each
    /// route's service and around each future. A limit [by route](crate::Limit::route) needs
    /// the layer. What axum says of [`Router::with_state`](axum::Router::with_state) holds
    /// here, too: called once at the end, even with `()`, it spares each request something.
    ///
    /// ```no_run
    /// use axum::{Router, routing::post};
    /// use tower_bodyguard::{BodyGuardLayer, Linger, MIB};
    ///
    /// # async fn run() -> std::io::Result<()> {
    /// let app = Router::new().route("/", post(|body: String| async { body }));
    /// let app = BodyGuardLayer::new(4 * MIB).for_axum().around(app);
    /// let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
    /// Linger::new().serve(listener, app).await
    /// # }
    /// ```
    ///
    /// For the peers' addresses, by [`axum::ServiceExt`]:
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use axum::{Router, ServiceExt, extract::Request};
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let app = BodyGuardLayer::new(4 * MIB).for_axum().around(Router::new());
    /// let app = ServiceExt::<Request>::into_make_service_with_connect_info::<SocketAddr>(app);
    /// ```
    pub fn around<S>(&self, app: S) -> AxumGuard<S, R> {
        AxumGuard(self.0.layer(AxumBodies(app)))
    }
}

impl<S, R: Clone> Layer<S> for AxumGuardLayer<R> {
    type Service = AxumGuard<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        self.around(inner)
    }
}

/// The service that [`AxumGuardLayer`] makes: [`BodyGuard`], with axum's own bodies on both
/// sides. It also makes itself, one for each connection, as a `Router` does.
#[derive(Clone, Debug)]
pub struct AxumGuard<S, R = PlainText>(BodyGuard<AxumBodies<S>, R>);

impl<S, R, ReqB, ResB> Service<Request<ReqB>> for AxumGuard<S, R>
where
    S: Service<Request, Response = Response<ResB>>,
    ReqB: HttpBody<Data = Bytes> + Send + 'static,
    ReqB::Error: Into<BoxError>,
    ResB: HttpBody<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
    R: OnRefusal<ResB> + Clone,
{
    type Response = Response;
    type Error = S::Error;
    type Future = AxumGuardFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<Body>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let request = request.map(Body::new);
        let guard = match request.body().is_end_stream() && self.0.passes_bodiless(&request) {
            // It need not be wrapped to be unwrapped.
            true => self.0.pass(|AxumBodies(app)| app.call(request)),
            false => self.0.call(request),
        };
        AxumGuardFuture { guard }
    }
}

impl<L, S, R> Service<IncomingStream<'_, L>> for AxumGuard<S, R>
where
    L: Listener,
    S: Clone,
    R: Clone,
{
    type Response = Self;
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: IncomingStream<'_, L>) -> Self::Future {
        ready(Ok(self.clone()))
    }
}

pin_project! {
    /// The future of [`AxumGuard`]'s responses.
    #[derive(Debug)]
    pub struct AxumGuardFuture<F, R> {
        #[pin]
        guard: ResponseFuture<F, R>,
    }
}

impl<F, B, E, R> Future for AxumGuardFuture<F, R>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: OnRefusal<B>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().guard.poll(cx))?;
        Poll::Ready(Ok(response.map(|body| own(body, ResponseBody::into_plain))))
    }
}

/// Gives a service of axum its own body type, and no limit of axum's for it.
#[derive(Clone, Debug)]
struct AxumBodies<S>(S);

impl<S> Service<Request<GuardedBody<Body>>> for AxumBodies<S>
where
    S: Service<Request>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<GuardedBody<Body>>) -> Self::Future {
        let lifts = !request.body().is_end_stream();
        let mut request = request.map(|body| own(body, GuardedBody::into_plain));
        // A limit is nothing to a request without a body.
        if lifts {
            DefaultBodyLimit::disable().apply(&mut request);
        }
        self.0.call(request)
    }
}
