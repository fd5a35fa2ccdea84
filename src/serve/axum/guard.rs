use std::{
    any::{Any, TypeId},
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    response::Response,
    routing::IntoMakeService,
    serve::{self, Listener},
};
use http::{Version, request::Parts};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    ConnectionRouter, IncomingStream, RefusalIntoResponse,
    bodies::{is_empty, own},
    default_limit::lift_default_limit,
    refusal_response::{AnyRefusalResponse, AxumResponse},
    route_limit,
    router::{connection_of, note_guard, share_routes},
};
use crate::{
    BodyGuardLayer, BoxError, Limit,
    limit::{BodyGuard, GuardedBody, PlainText, ResponseBody, ResponseFuture, promised},
};

/// The marker of a [`BodyGuardLayer`] for axum, which [`BodyGuardLayer::axum`] creates.
#[derive(Debug)]
pub enum AxumService {}

impl BodyGuardLayer<PlainText, AxumService> {
    /// Creates a layer that refuses bodies over `limit` in an axum app (feature `axum`). `limit` is
    /// a number of bytes, or a [`Limit`].
    ///
    /// axum's own default limit of 2 MB is lifted, so that `Bytes`, `String`, `Json`, `Form` and
    /// `Multipart` accept bodies up to this limit. A `DefaultBodyLimit` that the app sets still
    /// holds, within this layer or around it. It limits extractors only, and axum makes its
    /// responses. Lifting costs two allocations for a request with a body, or three if its
    /// extensions are empty. It costs nothing for a request without a body.
    ///
    /// ```
    /// use axum::{Router, body::Bytes, routing::post};
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let app: Router = Router::new()
    ///     .route("/", post(|body: Bytes| async move { body.len().to_string() }))
    ///     .layer(BodyGuardLayer::axum(100 * MIB));
    /// ```
    ///
    /// # Limits of routes
    ///
    /// There are two ways to set the limit of a route. A [`RouteLimit`](super::RouteLimit) is a
    /// layer of the route. [`Limit::route`] names the route in the limit of the router.
    ///
    /// # A whole app
    ///
    /// Around a whole app, the layer acts before the app has looked for a route. This saves what
    /// axum adds for a layer: a box around each route's service and around each future.
    ///
    /// If the app is a plain `Router`, [`serve`](super::serve()) calls the router without the layer
    /// when the declared length is within the limit. With a budget, a minimum rate, a timeout, a
    /// limit by the head, `keep_handler_response` or `upload_limit_on_options`, each request with a
    /// body goes through the layer. Around a make service, as below, the layer adds a box for each
    /// body.
    ///
    /// ```no_run
    /// use axum::{Router, routing::post};
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    /// use tower::Layer;
    ///
    /// # async fn run() -> std::io::Result<()> {
    /// let app = Router::new().route("/", post(|body: String| async { body }));
    /// let app = BodyGuardLayer::axum(4 * MIB).layer(app);
    /// let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
    /// tower_bodyguard::axum::serve(listener, app).await
    /// # }
    /// ```
    ///
    /// The layer is then around all of the app's own layers. CORS and tracing have to be around the
    /// limit. If the app has them, or if routes have limits of their own, put the layer into
    /// [`Router::layer`](axum::Router::layer). In a wrong place, the smallest limit applies, and
    /// the layer reports that once ([`Limit::route`]).
    ///
    /// With the addresses of the clients:
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use axum::Router;
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    /// use tower::Layer;
    ///
    /// let app = Router::new().into_make_service_with_connect_info::<SocketAddr>();
    /// let app = BodyGuardLayer::axum(4 * MIB).layer(app);
    /// ```
    ///
    /// In a custom accept loop, nothing makes the `Router` return a service for each connection:
    /// see [`Linger::wrap`](crate::Linger::wrap).
    pub fn axum(limit: impl Into<Limit>) -> Self {
        Self::for_chosen_limits(limit.into())
    }
}

impl<R> BodyGuardLayer<R, AxumService> {
    /// Sets the function that makes the responses to refused requests, as [for any
    /// service](BodyGuardLayer::refusal_response). A closure may return anything that is
    /// `IntoResponse`. For [`serve`](super::serve()), it has to be `Send`, `Sync` and `'static`.
    /// Each connection has a clone of it.
    ///
    /// ```
    /// use axum::{Json, Router, routing::post};
    /// use serde_json::json;
    /// use tower_bodyguard::{BodyGuardLayer, MIB, Refusal};
    ///
    /// let guard = BodyGuardLayer::axum(4 * MIB).refusal_response(|refusal: &Refusal| {
    ///     (refusal.status(), Json(json!({ "limit": refusal.limit() })))
    /// });
    /// let app: Router = Router::new()
    ///     .route("/", post(|body: String| async { body }))
    ///     .layer(guard);
    /// ```
    #[must_use]
    pub fn refusal_response<T>(self, response: T) -> BodyGuardLayer<T, AxumService>
    where
        T: RefusalIntoResponse,
    {
        self.with_response(response)
    }
}

impl<S, R> Layer<S> for BodyGuardLayer<R, AxumService>
where
    S: Clone + 'static,
    R: Clone,
{
    type Service = AxumGuard<S, R>;

    /// # Panics
    ///
    /// Panics if the limit is [by route](Limit::route) and `inner` is a whole `Router`, because no
    /// route is known yet.
    #[track_caller]
    fn layer(&self, inner: S) -> Self::Service {
        assert!(
            !self.is_by_route() || !is_router::<S>(),
            "around a whole app no route is known yet: a limit by route needs `Router::layer`"
        );
        note_guard();
        let limit = route_limit::find(&inner, self.limit());
        AxumGuard(self.guard(AxumBodies::new(inner), limit, AxumResponse))
    }
}

fn is_router<S: 'static>() -> bool {
    let app = TypeId::of::<S>();
    app == TypeId::of::<Router>() || app == TypeId::of::<IntoMakeService<Router>>()
}

/// The service that [`BodyGuardLayer::axum`] makes: [`BodyGuard`] with axum's body types. It is also
/// a make service if the inner service is one, as a `Router` is.
#[derive(Clone, Debug)]
pub struct AxumGuard<S, R = PlainText>(BodyGuard<AxumBodies<S>, AxumResponse<R>>);

impl<S, R> AxumGuard<S, R> {
    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.0.get_ref().app
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        let bodies = self.0.get_mut();
        // It may be replaced by another app.
        bodies.routes = Routes::Unknown;
        &mut bodies.app
    }

    /// Returns the inner service, without the limit.
    pub fn into_inner(self) -> S {
        self.0.into_inner().app
    }
}

impl<S, R, ReqB, ResB> Service<Request<ReqB>> for AxumGuard<S, R>
where
    S: Service<Request, Response = Response<ResB>>,
    ReqB: HttpBody<Data = Bytes> + Send + 'static,
    ReqB::Error: Into<BoxError>,
    ResB: HttpBody<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
    R: RefusalIntoResponse + Clone,
{
    type Response = Response;
    type Error = S::Error;
    type Future = AxumGuardFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.app().poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let promised = promised(request.body());
        let has_body = promised.exact() != Some(0);
        let Some(limit) = self.0.passes(&request, &promised) else {
            let guard = self.0.inspect(request, &promised, axum_request);
            return AxumGuardFuture::of(AxumGuardState::Inspected { guard });
        };
        let request = match has_body {
            false if is_empty(request.body()) => request.map(|_| Body::empty()),
            _ => {
                let (head, body) = request.into_parts();
                axum_request(head, GuardedBody::bounded(body, limit))
            }
        };
        let response = self.app().call(request);
        AxumGuardFuture::of(AxumGuardState::Passed { response })
    }
}

impl<F, R> AxumGuardFuture<F, R> {
    fn of(state: AxumGuardState<F, R>) -> Self {
        Self { state }
    }
}

impl<S, R> AxumGuard<S, R> {
    fn app(&mut self) -> &mut S {
        &mut self.0.get_mut().app
    }
}

/// The service that a limit layer around a `Router` makes for a connection of
/// [`serve`](super::serve()).
pub(super) type ConnectionGuard = AxumGuard<ConnectionRouter, AnyRefusalResponse>;

impl ConnectionGuard {
    /// Returns the app as such a service, if it is one.
    pub(super) fn of_app<S: 'static>(app: &S) -> Option<&Self> {
        let app: &dyn Any = app;
        app.downcast_ref()
    }

    /// Returns the router if the request passes by its head, and lifts axum's default limit for a
    /// body that is not empty. hyper's own body yields no more than its length, so nothing is left
    /// to count.
    pub(super) fn admit(&self, request: &mut Request<Incoming>) -> Option<&ConnectionRouter> {
        let promised = promised(request.body());
        let has_body = promised.exact()? != 0;
        // Over HTTP/1, hyper has checked the header that declares the length. h2 need not be as
        // strict.
        match has_body && request.version() <= Version::HTTP_11 {
            true => self.0.passes_by_body(&promised)?,
            false => self.0.passes(request, &promised)?,
        };
        if has_body {
            lift_default_limit(request);
        }
        Some(self.get_ref())
    }
}

/// Makes services of connections for [`serve`](super::serve).
impl<'a, L, S, R> Service<IncomingStream<'a, L>> for AxumGuard<S, R>
where
    L: Listener,
    S: Service<IncomingStream<'a, L>> + 'static,
    S::Response: 'static,
    R: RefusalIntoResponse + Clone + Send + Sync + 'static,
{
    type Response = AxumGuard<S::Response, AnyRefusalResponse>;
    type Error = S::Error;
    type Future = MakeAxumGuard<S::Future, S::Response, AnyRefusalResponse>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.app().poll_ready(cx)
    }

    fn call(&mut self, stream: IncomingStream<'a, L>) -> Self::Future {
        let state = match self.0.get_mut().connection() {
            Some(app) => MakeState::Made { app: Some(app) },
            None => {
                let app = self.app().call(stream);
                MakeState::Making { app }
            }
        };
        let guard = self.0.around_with((), |response| {
            AxumResponse(AnyRefusalResponse::new(response.0.clone()))
        });
        MakeAxumGuard { state, guard }
    }
}

/// Makes services of connections for `axum::serve`.
impl<'a, L, S, R> Service<serve::IncomingStream<'a, L>> for AxumGuard<S, R>
where
    L: Listener,
    S: Service<serve::IncomingStream<'a, L>>,
    R: Clone,
{
    type Response = AxumGuard<S::Response, R>;
    type Error = S::Error;
    type Future = MakeAxumGuard<S::Future, S::Response, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.app().poll_ready(cx)
    }

    fn call(&mut self, stream: serve::IncomingStream<'a, L>) -> Self::Future {
        let app = self.app().call(stream);
        let state = MakeState::Making { app };
        let guard = self.0.around(());
        MakeAxumGuard { state, guard }
    }
}

pin_project! {
    /// The future that makes the [`AxumGuard`] of one connection.
    #[derive(Debug)]
    pub struct MakeAxumGuard<F, S, R> {
        #[pin]
        state: MakeState<F, S>,
        guard: BodyGuard<(), AxumResponse<R>>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = MakeStateProj]
    enum MakeState<F, S> {
        Making {
            #[pin]
            app: F,
        },
        // The app needs no work for a connection.
        Made { app: Option<S> },
    }
}

impl<F, S, E, R> Future for MakeAxumGuard<F, S, R>
where
    F: Future<Output = Result<S, E>>,
    R: Clone,
{
    type Output = Result<AxumGuard<S, R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let app = match this.state.project() {
            MakeStateProj::Making { app } => ready!(app.poll(cx))?,
            MakeStateProj::Made { app } => app.take().expect("it is taken once"),
        };
        let guard = this.guard.around(AxumBodies::new(app));
        Poll::Ready(Ok(AxumGuard(guard.for_connection())))
    }
}

pin_project! {
    /// The future of [`AxumGuard`]'s responses.
    #[derive(Debug)]
    pub struct AxumGuardFuture<F, R> {
        #[pin]
        state: AxumGuardState<F, R>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = AxumGuardStateProj]
    enum AxumGuardState<F, R> {
        // The request cannot be refused later.
        Passed {
            #[pin]
            response: F,
        },
        Inspected {
            #[pin]
            guard: ResponseFuture<AxumBody<F>, AxumResponse<R>>,
        },
    }
}

impl<F, B, E, R> Future for AxumGuardFuture<F, R>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: RefusalIntoResponse,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            AxumGuardStateProj::Passed { response } => {
                response.poll(cx).map_ok(|response| response.map(Body::new))
            }
            AxumGuardStateProj::Inspected { guard } => guard
                .poll(cx)
                .map_ok(|response| response.map(|body| own(body, ResponseBody::into_plain))),
        }
    }
}

/// A service that converts an app's responses to axum's own body type.
#[derive(Clone, Debug)]
struct AxumBodies<S> {
    app: S,
    routes: Routes,
}

/// Whether the connections of an app share its routes: see [`share_routes`].
#[derive(Clone, Copy, Debug)]
enum Routes {
    /// The app has made no service of a connection yet.
    Unknown,
    Shared,
    Separate,
}

impl<S> AxumBodies<S> {
    fn new(app: S) -> Self {
        let routes = Routes::Unknown;
        Self { app, routes }
    }

    /// Returns the service of a connection, if the app is a router whose connections share its
    /// routes.
    fn connection<T: 'static>(&mut self) -> Option<T>
    where
        S: 'static,
    {
        if let Routes::Unknown = self.routes {
            self.routes = match share_routes(&mut self.app) {
                true => Routes::Shared,
                false => Routes::Separate,
            };
        }
        match self.routes {
            Routes::Shared => connection_of(&self.app),
            Routes::Unknown | Routes::Separate => None,
        }
    }
}

impl<S, ResB> Service<Request> for AxumBodies<S>
where
    S: Service<Request, Response = Response<ResB>>,
    ResB: HttpBody<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = AxumBody<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.app.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let response = self.app.call(request);
        AxumBody { response }
    }
}

/// Makes a request with axum's own body type. Lifts axum's default limit.
fn axum_request<B>(head: Parts, body: GuardedBody<B>) -> Request
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    // A request without a body needs no limit.
    let lifts = !body.is_end_stream();
    let mut request = Request::from_parts(head, own(body, GuardedBody::into_plain));
    if lifts {
        lift_default_limit(&mut request);
    }
    request
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
