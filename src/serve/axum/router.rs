//! Prepares a `Router` once, and not for each connection.
//!
//! As a make service, a `Router` clones all its routes for each connection, and makes their layers
//! anew (`axum::routing`, `impl Service<IncomingStream> for Router`). The make service that
//! `Router::into_make_service` returns does that once, and so do these functions.

use std::any::Any;

use axum::Router;

/// Makes the routes of an app, if it is a `Router`. Returns any other app as it is.
pub(super) fn prepare<A: 'static>(app: A) -> A {
    let mut app = Some(app);
    let any: &mut dyn Any = &mut app;
    if let Some(router) = any.downcast_mut::<Option<Router>>() {
        *router = router.take().map(|router| router.with_state(()));
    }
    app.expect("a router is put back")
}

/// Returns the service of a connection, if the app is a [prepared](prepare) `Router`. Its clones
/// share the routes.
pub(super) fn service_of<A: 'static, S: 'static>(app: &A) -> Option<S> {
    let app: &dyn Any = app;
    let mut service = Some(app.downcast_ref::<Router>()?.clone());
    let service: &mut dyn Any = &mut service;
    service.downcast_mut::<Option<S>>()?.take()
}
