//! Makes the routes of a `Router` once, and not for each connection.
//!
//! As a make service, a `Router` clones all its routes for each connection, and applies their layers
//! again (`axum::routing`, `impl Service<IncomingStream> for Router`). The make service that
//! `Router::into_make_service` returns does that once.

use std::{
    any::Any,
    cell::Cell,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::{Router, extract::Request, routing::future::RouteFuture};
use tower_service::Service;

/// The service of one connection, which a `Router` makes for [`serve`](super::serve()). All
/// connections share the routes.
///
/// A service is cloned for each request. A clone of the `Router` would count a reference, and the
/// connections of all cores would contend for the count. So each connection has a count of its own.
/// The lock is free: a call only makes a future.
#[derive(Clone, Debug)]
pub struct ConnectionRouter(Arc<Mutex<Router>>);

impl ConnectionRouter {
    /// Wraps a router whose routes are made.
    pub(super) fn new(router: Router) -> Self {
        Self(Arc::new(Mutex::new(router)))
    }
}

impl Service<Request> for ConnectionRouter {
    type Response = axum::response::Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A `Router` is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // A call changes nothing, so a panic within one leaves the router as it was.
        let mut router = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        router.call(request)
    }
}

thread_local! {
    /// Whether a limit layer was applied to a route.
    static GUARDS_A_ROUTE: Cell<bool> = const { Cell::new(false) };
}

/// Records that a limit layer is applied to a service.
pub(super) fn note_guard() {
    GUARDS_A_ROUTE.set(true);
}

/// Makes the routes of an app, if it is a `Router` whose connections can share them. Returns whether
/// it is.
///
/// The routes of a router with limit layers are made for each connection, as by axum. A limit layer
/// counts references to its settings, and connections would contend for that count.
pub(super) fn share_routes<A: 'static>(app: &mut A) -> bool {
    let app: &mut dyn Any = app;
    let Some(router) = app.downcast_mut::<Router>() else {
        return false;
    };
    GUARDS_A_ROUTE.set(false);
    let made = router.clone().with_state(());
    let is_shared = !GUARDS_A_ROUTE.take();
    if is_shared {
        *router = made;
    }
    is_shared
}

/// Returns the service of a connection, if the app is a `Router` whose routes
/// [are shared](share_routes).
pub(super) fn connection_of<A: 'static, S: 'static>(app: &A) -> Option<S> {
    let app: &dyn Any = app;
    let router = app.downcast_ref::<Router>()?;
    let mut service = Some(ConnectionRouter::new(router.clone()));
    let service: &mut dyn Any = &mut service;
    service.downcast_mut::<Option<S>>()?.take()
}
