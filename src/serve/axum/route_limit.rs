use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use crate::{Limit, warn::warn};

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
///
/// **The limit layer has to be a layer of a `Router` or `MethodRouter` that contains the route**,
/// because it decides before the route is reached. When the limit layer is applied, it clones the
/// service inside of it, and each `RouteLimit` that is cloned with it reports itself.
///
/// # Caveats
///
/// The limit layer does not find a `RouteLimit` in these cases:
///
/// - A layer between the two has clones that share one service, as tower's `Buffer` has.
/// - The limit layer is around a whole app.
/// - There are several, because a `MethodRouter` is passed as a service
///   (`Router::nest_service`, `route_service`, `fallback_service`), or a handler has two.
///
/// Then the limit layer's own limit applies, or in the last case the smallest of all. The first
/// request to the route makes `RouteLimit` report that, to `tracing` (feature `tracing`), or in
/// debug builds without that feature to standard error.
///
/// A custom service that passes requests to one of several services counts as one route: a
/// `RouteLimit` on one of them applies to all.
///
/// With a second layer on the route, use a `ServiceBuilder`, because axum cannot infer the error
/// type between two `MethodRouter::layer` calls:
///
/// ```
/// # use axum::{Router, routing::post};
/// # use tower::ServiceBuilder;
/// # use tower_bodyguard::{BodyGuardLayer, MIB, axum::RouteLimit};
/// # use tower_http::trace::TraceLayer;
/// let layers = ServiceBuilder::new()
///     .layer(TraceLayer::new_for_http())
///     .layer(RouteLimit::new(100 * MIB));
/// let app: Router = Router::new()
///     .route("/upload", post(|body: String| async { body }).layer(layers))
///     .layer(BodyGuardLayer::axum(2 * MIB));
/// ```
///
/// [`BodyGuardLayer::axum`]: crate::BodyGuardLayer::axum
#[derive(Debug)]
pub struct RouteLimit {
    limit: Limit,
    /// Shared by all clones. axum makes the layers of handlers again for each request.
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// A limit layer has found a clone of the `RouteLimit` itself, in a handler.
    is_found: AtomicBool,
    has_reported: AtomicBool,
}

/// Whether there is a `RouteLimit` in the process: limit layers look for none otherwise.
static IS_USED: AtomicBool = AtomicBool::new(false);

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
        IS_USED.store(true, Ordering::Relaxed);
        Self {
            limit,
            shared: Arc::default(),
        }
    }

    fn share(&self) -> Self {
        Self {
            limit: self.limit.clone(),
            shared: Arc::clone(&self.shared),
        }
    }

    #[cold]
    fn report_not_found(&self) {
        if self.shared.has_reported.swap(true, Ordering::Relaxed) {
            return;
        }
        warn(format_args!(
            "a `RouteLimit` is not in force ({:?}): it needs a `BodyGuardLayer::axum` in \
             `Router::layer` of a router that has the route, no layer between the two that hides \
             it, and no second `RouteLimit` beside it",
            self.limit
        ));
    }
}

/// A clone reports itself to the limit layer that looks for it.
impl Clone for RouteLimit {
    fn clone(&self) -> Self {
        report(|| Found {
            limit: self.limit.clone(),
            mark: Mark::Handler(Arc::clone(&self.shared)),
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
            is_found: Arc::default(),
        }
    }
}

/// The inner service, with the [`RouteLimit`] that a limit layer looks up.
#[derive(Debug)]
pub struct RouteLimited<S> {
    inner: S,
    route_limit: RouteLimit,
    /// Whether a limit layer has found this service.
    is_found: Arc<AtomicBool>,
}

struct Found {
    limit: Limit,
    mark: Mark,
}

/// Where a limit layer notes that it has found a limit.
enum Mark {
    Service(Arc<AtomicBool>),
    Handler(Arc<Shared>),
}

thread_local! {
    /// The limits of the services that are cloned; `None` unless a limit layer looks for them.
    static FOUND: RefCell<Option<Vec<Found>>> = const { RefCell::new(None) };
}

/// Stops looking when dropped, also if a clone panics.
struct Looking;

impl Drop for Looking {
    fn drop(&mut self) {
        FOUND.set(None);
    }
}

fn report(found: impl FnOnce() -> Found) {
    FOUND.with_borrow_mut(|all| {
        if let Some(all) = all {
            all.push(found());
        }
    });
}

fn reported() -> usize {
    FOUND.with_borrow(|found| found.as_ref().map_or(0, Vec::len))
}

/// Returns the limit for requests to a service whose limit layer has the limit `own`: that of the
/// one `RouteLimit` inside. With several, it is the smallest of all.
pub(super) fn find<S: Clone>(service: &S, own: &Limit) -> Option<Limit> {
    if !IS_USED.load(Ordering::Relaxed) {
        return None;
    }
    FOUND.set(Some(Vec::new()));
    let looking = Looking;
    let clone = service.clone();
    let found = FOUND.take().unwrap_or_default();
    drop(looking);
    drop(clone);
    match found.as_slice() {
        [] => None,
        [Found { limit, mark }] => {
            match mark {
                Mark::Service(is_found) => is_found.store(true, Ordering::Relaxed),
                Mark::Handler(shared) => shared.is_found.store(true, Ordering::Relaxed),
            }
            Some(limit.clone())
        }
        several => {
            let limits = several.iter().map(|found| found.limit.clone());
            Some(Limit::smallest(limits.chain([own.clone()]).collect()))
        }
    }
}

impl<S: Clone> Clone for RouteLimited<S> {
    fn clone(&self) -> Self {
        let before = reported();
        let inner = self.inner.clone();
        // If there is one inside, that one applies.
        if reported() == before {
            report(|| Found {
                limit: self.route_limit.limit.clone(),
                mark: Mark::Service(Arc::clone(&self.is_found)),
            });
        }
        Self {
            inner,
            route_limit: self.route_limit.share(),
            is_found: Arc::clone(&self.is_found),
        }
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
        let is_found = self.is_found.load(Ordering::Relaxed)
            || self.route_limit.shared.is_found.load(Ordering::Relaxed);
        if !is_found {
            self.route_limit.report_not_found();
        }
        self.inner.call(request)
    }
}
