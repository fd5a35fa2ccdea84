use std::{
    any::Any,
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::routing::Route;
use tower_layer::Layer;
use tower_service::Service;

use crate::{Limit, observe::warn};

/// A layer that sets the limit of a route, in place of the limit of the router's
/// [`BodyGuardLayer::axum`]. It is a layer of a `MethodRouter` or a handler, as axum's
/// `DefaultBodyLimit` is.
///
/// ```
/// use axum::{Router, body::Bytes, routing::post};
/// use tower_bodyguard::{BodyGuardLayer, MIB, axum::RouteLimit};
///
/// async fn count(body: Bytes) -> String {
///     body.len().to_string()
/// }
///
/// let app: Router = Router::new()
///     .route("/comment", post(count))
///     .route("/upload", post(count).layer(RouteLimit::new(100 * MIB)))
///     .layer(BodyGuardLayer::axum(2 * MIB));
/// ```
///
/// All other settings come from the router's layer: the responses, the rate, the observer.
/// `RouteLimit` also works for fallbacks, in nested routers, and inside other layers of the route.
/// If a route has two, the inner one applies.
///
/// **The limit layer has to be a layer of a `Router` or `MethodRouter` that contains the route**,
/// because it decides before the route is reached. When the limit layer is applied, it clones the
/// route, and each `RouteLimit` that is cloned with it reports itself.
///
/// The limit layer does not find a `RouteLimit` in two cases:
///
/// - A layer between the two has clones that share one service, as tower's `Buffer` has.
/// - The limit layer is around a whole app.
///
/// Then the limit layer's own limit applies, and the first request to the route makes `RouteLimit`
/// report that. The report goes to `tracing` (feature `tracing`), or in debug builds without that
/// feature to standard error.
///
/// [`BodyGuardLayer::axum`]: crate::BodyGuardLayer::axum
#[derive(Debug)]
pub struct RouteLimit {
    limit: Limit,
    /// Whether a limit layer has found the limit. All clones share it, because axum makes the
    /// layers of handlers anew for each request.
    is_known: Arc<AtomicBool>,
}

impl RouteLimit {
    /// Creates a layer that limits the bodies of the requests to a route. `limit` is a number of
    /// bytes, or a [`Limit`].
    ///
    /// # Panics
    ///
    /// Panics if the limit is by route ([`Limit::route`]).
    #[track_caller]
    pub fn new(limit: impl Into<Limit>) -> Self {
        let limit = limit.into();
        assert!(
            !limit.is_by_route(),
            "the limit of a route is by route itself: give the route one limit"
        );
        Self {
            limit,
            is_known: Arc::default(),
        }
    }

    fn share(&self) -> Self {
        Self {
            limit: self.limit.clone(),
            is_known: Arc::clone(&self.is_known),
        }
    }

    #[cold]
    fn warn_if_unknown(&self) {
        if self.is_known.swap(true, Ordering::Relaxed) {
            return;
        }
        warn(format_args!(
            "a `RouteLimit` is not in force ({:?}): it needs a `BodyGuardLayer::axum` in \
             `Router::layer` of a router that has the route, and no layer between the two that \
             hides it",
            self.limit
        ));
    }
}

/// Reports the clone to the limit layer that looks for it.
impl Clone for RouteLimit {
    fn clone(&self) -> Self {
        FOUND.with_borrow_mut(|found| {
            if let Some(found) = found {
                found.push(self.share());
            }
        });
        self.share()
    }
}

impl<S> Layer<S> for RouteLimit {
    type Service = RouteLimited<S>;

    fn layer(&self, inner: S) -> RouteLimited<S> {
        RouteLimited {
            inner,
            route_limit: self.share(),
        }
    }
}

/// The service that [`RouteLimit`] makes. It passes requests to the inner one.
#[derive(Debug)]
pub struct RouteLimited<S> {
    inner: S,
    route_limit: RouteLimit,
}

thread_local! {
    /// The limits that cloned services report. `None` while no limit layer looks for them.
    static FOUND: RefCell<Option<Vec<RouteLimit>>> = const { RefCell::new(None) };
}

/// Finds the limit of a route. Finds none if `service` is not a route: it may contain many.
pub(super) fn find<S: Clone + 'static>(service: &S) -> Option<Limit> {
    let route: &dyn Any = service;
    let route = route.downcast_ref::<Route>()?;
    FOUND.set(Some(Vec::new()));
    let clone = route.clone();
    let found = FOUND.take().unwrap_or_default();
    // Not dropped earlier, because its drop may run any code.
    drop(clone);
    let (first, others) = found.split_first()?;
    let is_first = |other: &RouteLimit| Arc::ptr_eq(&other.is_known, &first.is_known);
    // If they differ, they belong to several inner routes.
    others.iter().all(is_first).then(|| {
        first.is_known.store(true, Ordering::Relaxed);
        first.limit.clone()
    })
}

impl<S: Clone> Clone for RouteLimited<S> {
    fn clone(&self) -> Self {
        let reported = || FOUND.with_borrow(|found| found.as_ref().map_or(0, Vec::len));
        let before = reported();
        let inner = self.inner.clone();
        let route_limit = match reported() == before {
            true => self.route_limit.clone(),
            // The inner one applies.
            false => self.route_limit.share(),
        };
        Self { inner, route_limit }
    }
}

impl<S, T> Service<T> for RouteLimited<S>
where
    S: Service<T>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: T) -> S::Future {
        if !self.route_limit.is_known.load(Ordering::Relaxed) {
            self.route_limit.warn_if_unknown();
        }
        self.inner.call(request)
    }
}
