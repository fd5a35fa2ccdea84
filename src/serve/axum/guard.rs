use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    response::Response,
    serve::{self, Listener},
};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    IncomingStream,
    bodies::{axum_body, is_empty, own},
    default_limit::lift_default_limit,
};
use crate::{
    BoxError,
    limit::{
        BodyGuard, BodyGuardLayer, GuardedBody, OnRefusal, PlainText, ResponseBody, ResponseFuture,
    },
};

impl<R> BodyGuardLayer<R> {
    /// The guard in axum's terms (feature `axum`), to be called last: with axum's own
    /// [`Body`] on both sides, so that one that there is nothing to count of need not be boxed
    /// anew, and with axum's default limit of 2 MB lifted, so that this one is what `Bytes`,
    /// `String`, `Json`, `Form` and `Multipart` admit.
    ///
    /// axum's `DefaultBodyLimit` bounds its extractors only, and answers with 413 or
    /// 400 in words of its own. One that the app sets still holds, be it inside of this layer
    /// or outside: only axum's built-in 2 MB are lifted. Lifting costs two allocations for a
    /// request with a body, or three if its extensions are empty; a request without a body pays
    /// nothing.
    ///
    /// With [`Limit::unlimited()`](crate::Limit::unlimited), `Bytes` and the other extractors have no
    /// limit at all, and a client can make them fill the memory.
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
    /// The guard around a whole app, for [`serve`](super::serve) and `axum::serve`.
    ///
    /// It comes before the app has looked for a route, and spares what axum takes for a
    /// layer: a box around each route's service and around each future. It is around all of
    /// the app's own layers, too: where one has to be outside of the guard, as CORS and
    /// tracing have, the guard is a layer as well
    /// ([`Router::layer`](axum::Router::layer)). So it is where the route has a say, by
    /// [`Limit::route`](crate::Limit::route) or `MatchedPath`: none is known here.
    ///
    /// ```no_run
    /// use axum::{Router, routing::post};
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// # async fn run() -> std::io::Result<()> {
    /// let app = Router::new().route("/", post(|body: String| async { body }));
    /// let app = BodyGuardLayer::new(4 * MIB).for_axum().around(app);
    /// let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
    /// tower_bodyguard::axum::serve(listener, app).await
    /// # }
    /// ```
    ///
    /// With the peers' addresses:
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use axum::Router;
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let app = Router::new().into_make_service_with_connect_info::<SocketAddr>();
    /// let app = BodyGuardLayer::new(4 * MIB).for_axum().around(app);
    /// ```
    ///
    /// In an accept loop of one's own, nobody makes a service of a `Router` for each
    /// connection: see [`Linger::wrap`](crate::Linger::wrap).
    ///
    /// # Panics
    ///
    /// Panics if the limit is [by route](crate::Limit::route), for no route is known yet. If
    /// [`Limit::from_fn`](crate::Limit::from_fn) makes such a limit, the smallest of its limits applies.
    #[must_use]
    #[track_caller]
    pub fn around<S>(&self, app: S) -> AxumGuard<S, R> {
        assert!(
            !self.0.is_by_route(),
            "around an app no route is known yet: a limit by route needs `Router::layer`"
        );
        self.layer(app)
    }
}

impl<S, R: Clone> Layer<S> for AxumGuardLayer<R> {
    type Service = AxumGuard<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        AxumGuard(self.0.layer(AxumBodies(inner)))
    }
}

/// The service that [`AxumGuardLayer`] makes: [`BodyGuard`], with axum's own bodies on both
/// sides. Around what makes a service for each connection, as a `Router` does, it makes one,
/// too.
#[derive(Clone, Debug)]
pub struct AxumGuard<S, R = PlainText>(BodyGuard<AxumBodies<S>, R>);

impl<S, R, ReqB, ResB> Service<Request<ReqB>> for AxumGuard<S, R>
where
    S: Service<Request, Response = Response<ResB>>,
    ReqB: HttpBody<Data = Bytes> + Send + 'static,
    ReqB::Error: Into<BoxError>,
    ResB: HttpBody<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
    R: OnRefusal<Body> + Clone,
{
    type Response = Response;
    type Error = S::Error;
    type Future = AxumGuardFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.inner_mut().0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let request = request.map(axum_body);
        let guard = match is_empty(request.body()) && self.0.passes_bodiless(&request) {
            // It need not be wrapped to be unwrapped.
            true => self.0.pass(|AxumBodies(app)| AxumBody {
                response: app.call(request),
            }),
            false => self.0.call(request),
        };
        AxumGuardFuture { guard }
    }
}

impl<S, R: Clone> AxumGuard<S, R> {
    /// Makes the service of a connection, as the app within does.
    fn make<T>(&mut self, stream: T) -> MakeAxumGuard<S::Future, R>
    where
        S: Service<T>,
    {
        MakeAxumGuard {
            app: self.0.inner_mut().0.call(stream),
            guard: self.0.around(()),
        }
    }
}

/// For [`serve`](super::serve).
impl<'a, L, S, R> Service<IncomingStream<'a, L>> for AxumGuard<S, R>
where
    L: Listener,
    S: Service<IncomingStream<'a, L>>,
    R: Clone,
{
    type Response = AxumGuard<S::Response, R>;
    type Error = S::Error;
    type Future = MakeAxumGuard<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.inner_mut().0.poll_ready(cx)
    }

    fn call(&mut self, stream: IncomingStream<'a, L>) -> Self::Future {
        self.make(stream)
    }
}

/// For `axum::serve`.
impl<'a, L, S, R> Service<serve::IncomingStream<'a, L>> for AxumGuard<S, R>
where
    L: Listener,
    S: Service<serve::IncomingStream<'a, L>>,
    R: Clone,
{
    type Response = AxumGuard<S::Response, R>;
    type Error = S::Error;
    type Future = MakeAxumGuard<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.inner_mut().0.poll_ready(cx)
    }

    fn call(&mut self, stream: serve::IncomingStream<'a, L>) -> Self::Future {
        self.make(stream)
    }
}

pin_project! {
    /// The future of an [`AxumGuard`] for one connection.
    #[derive(Debug)]
    pub struct MakeAxumGuard<F, R> {
        #[pin]
        app: F,
        guard: BodyGuard<(), R>,
    }
}

impl<F, S, E, R> Future for MakeAxumGuard<F, R>
where
    F: Future<Output = Result<S, E>>,
    R: Clone,
{
    type Output = Result<AxumGuard<S, R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let app = ready!(this.app.poll(cx))?;
        Poll::Ready(Ok(AxumGuard(this.guard.around(AxumBodies(app)))))
    }
}

pin_project! {
    /// The future of [`AxumGuard`]'s responses.
    #[derive(Debug)]
    pub struct AxumGuardFuture<F, R> {
        #[pin]
        guard: ResponseFuture<AxumBody<F>, R>,
    }
}

impl<F, B, E, R> Future for AxumGuardFuture<F, R>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: OnRefusal<Body>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().guard.poll(cx))?;
        Poll::Ready(Ok(response.map(|body| own(body, ResponseBody::into_plain))))
    }
}

/// Gives a service of axum its own body type, and no limit of axum's for it; and has it answer
/// in that type.
#[derive(Clone, Debug)]
struct AxumBodies<S>(S);

impl<S, B> Service<Request<GuardedBody<Body>>> for AxumBodies<S>
where
    S: Service<Request, Response = Response<B>>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = AxumBody<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<GuardedBody<Body>>) -> Self::Future {
        let lifts = !request.body().is_end_stream();
        let mut request = request.map(|body| own(body, GuardedBody::into_plain));
        // A limit is nothing to a request without a body.
        if lifts {
            lift_default_limit(&mut request);
        }
        let response = self.0.call(request);
        AxumBody { response }
    }
}

pin_project! {
    #[derive(Debug)]
    struct AxumBody<F> {
        #[pin]
        response: F,
    }
}

impl<F, B, E> Future for AxumBody<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().response.poll(cx))?;
        Poll::Ready(Ok(response.map(Body::new)))
    }
}
