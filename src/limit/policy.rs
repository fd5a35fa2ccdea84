#[cfg(feature = "axum")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::{collections::HashMap, fmt, sync::Arc};

use http::request::Parts;

#[cfg(feature = "axum")]
use super::routes::{Matched, Routes, check};

/// How many bytes a request's body may have: a number, or what the head decides.
///
/// ```
/// use tower_bodyguard::{BodyGuardLayer, Limit, MIB};
///
/// // The same for all.
/// let fixed = BodyGuardLayer::new(2 * MIB);
///
/// // By anything in the head: here a plan that an outer layer found out.
/// #[derive(Clone)]
/// struct Paying;
///
/// let by_plan = Limit::from_fn(|head| match head.extensions.get::<Paying>() {
///     Some(Paying) => Limit::max(100 * MIB),
///     None => Limit::max(2 * MIB),
/// });
/// let guard = BodyGuardLayer::new(by_plan);
/// ```
///
/// What decides by an extension has to be inside of the layer that leaves it: with
/// `Router::layer`, that layer is added after the guard.
///
/// One guard decides once, before the handler runs. Of nested guards each has its
/// say, and so the smallest limit wins; the words are of the one that refuses, which
/// for a declared length is the outermost that it is too long for.
#[derive(Clone)]
pub struct Limit(Rule);

#[derive(Clone)]
enum Rule {
    /// `None` for no limit.
    Fixed(Option<u64>),
    By(Arc<ByHead>),
    #[cfg(feature = "axum")]
    Routes(Arc<Routes<Limit>>),
    Methods(Arc<Methods>),
}

/// gRPC methods that have limits of their own.
#[derive(Clone)]
struct Methods {
    /// By `/package.Service/Method`, which is the path of a call.
    by_path: HashMap<Box<str>, Limit>,
    others: Limit,
}

/// What a limit by route found in a request's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing was looked for: the limit is not by route.
    #[default]
    Unasked,
    #[cfg(feature = "axum")]
    Route,
    #[cfg(feature = "axum")]
    NoRoute {
        /// Whether the limit is smaller than that of the routes without one of their own.
        stricter: bool,
    },
}

#[cfg(feature = "axum")]
impl Methods {
    fn limits(&self) -> impl Iterator<Item = &Limit> {
        self.by_path.values().chain([&self.others])
    }
}

type ByHead = dyn Fn(&Parts) -> Limit + Send + Sync;

impl Limit {
    /// At most so many bytes.
    #[must_use]
    pub const fn max(bytes: u64) -> Self {
        Self(Rule::Fixed(Some(bytes)))
    }

    /// Sets no limit: the layer only inspects the head.
    ///
    /// Under `BodyGuardLayer::axum` this leaves axum's extractors
    /// (`Bytes`, `String`, `Json` …) with no limit at all, for axum's own 2 MB are lifted: a
    /// client can make them fill the memory. It is meant for handlers that stream.
    ///
    /// ```
    /// use http::Method;
    /// use tower_bodyguard::{BodyGuardLayer, Limit, MIB};
    ///
    /// let limit = Limit::from_fn(|head| match head.method {
    ///     Method::PUT => Limit::unlimited(),
    ///     _ => Limit::max(2 * MIB),
    /// });
    /// let guard = BodyGuardLayer::new(limit);
    /// ```
    #[must_use]
    pub const fn unlimited() -> Self {
        Self(Rule::Fixed(None))
    }

    /// What `decide` makes of the request's head: its method, path, content type,
    /// or extensions that outer layers have left. It runs once for each request,
    /// before the handler.
    ///
    /// # Panics in callbacks
    ///
    /// A panic goes through to the server: hyper drops the connection.
    pub fn from_fn<F>(decide: F) -> Self
    where
        F: Fn(&Parts) -> Self + Send + Sync + 'static,
    {
        Self(Rule::By(Arc::new(decide)))
    }

    /// Sets another limit for one route of axum (feature `axum`), named as in
    /// `Router::route`: `/users/{id}/photo`. Routes without a limit of their own keep the limit
    /// that this is called on.
    ///
    /// It belongs into a layer of the `Router` that has the route ([`Router::layer`],
    /// `Router::route_layer`), or of a router that this one is nested in. The path is written
    /// as in that router. In a nested router, its full path works as well, as
    /// [`MatchedPath`](axum::extract::MatchedPath) has it; the smaller limit applies if both
    /// are written.
    ///
    /// # Requests without a route
    ///
    /// No route is known for a fallback, within `nest_service` and `fallback_service`, and in
    /// a layer around the whole router (`ServiceBuilder::service(router)`). **The smallest of
    /// all limits applies then**, and the layer says so once: to its observer
    /// ([`Event::RouteUnknown`](crate::Event::RouteUnknown)), and to `tracing` (feature
    /// `tracing`), or in debug builds without that feature to standard error. Limits by head
    /// among them are asked, even if they are meant for a route.
    ///
    /// axum does not tell a layer which routes exist. A limit for a misspelled route never
    /// applies, and neither does one for a route that another router has, behind a route of
    /// its own (`route_service("/{*rest}", …)`).
    ///
    /// [`Router::layer`]: axum::Router::layer
    ///
    /// # Panics
    ///
    /// Panics if `Router::route` would panic at the path, as at `upload` and `/:id`, if the
    /// route has a limit already, and if `limit` is by route itself.
    ///
    /// ```
    /// use axum::{Router, body::Bytes, routing::post};
    /// use tower_bodyguard::{BodyGuardLayer, Limit, MIB};
    ///
    /// async fn count(body: Bytes) -> String {
    ///     body.len().to_string()
    /// }
    ///
    /// let limit = Limit::max(2 * MIB).route("/upload", 100 * MIB);
    /// let app: Router = Router::new()
    ///     .route("/comment", post(count))
    ///     .route("/upload", post(count))
    ///     .layer(BodyGuardLayer::axum(limit));
    /// ```
    #[cfg(feature = "axum")]
    #[must_use]
    #[track_caller]
    pub fn route(self, path: &str, limit: impl Into<Self>) -> Self {
        let mut routes = match self.0 {
            Rule::Routes(routes) => Arc::unwrap_or_clone(routes),
            others => Routes::new(Self(others)),
        };
        let limit = limit.into();
        check(path);
        assert!(
            !limit.is_by_route(),
            "the limit of the route `{path}` is by route itself: give each route one limit"
        );
        routes.insert(path, limit);
        Self(Rule::Routes(Arc::new(routes)))
    }

    /// Sets another limit for one gRPC method: the service's name, with its package, and the
    /// method's, as they are in the `.proto` file. Other requests keep the limit that this is
    /// called on.
    ///
    /// The limit counts all the bytes of a call, each message with the 5 bytes before it. How
    /// long one message may be is tonic's to limit: 4 MiB, unless the service is made with
    /// `max_decoding_message_size`.
    ///
    /// The code that `tonic-build` generates has the service's name as a constant:
    /// `upload_server::SERVICE_NAME`. A method that does not exist is never called, and its
    /// limit never applies.
    ///
    /// # Panics
    ///
    /// Panics if a name is empty or has a `/`, and if the method has a limit already.
    ///
    /// ```
    /// use tower_bodyguard::{BodyGuardLayer, Limit, MIB};
    ///
    /// let limit = Limit::max(4 * MIB).grpc_method("chat.v1.Chat", "Talk", Limit::unlimited());
    /// let guard = BodyGuardLayer::new(limit);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn grpc_method(self, service: &str, method: &str, limit: impl Into<Self>) -> Self {
        for name in [service, method] {
            assert!(
                !name.is_empty() && !name.contains('/'),
                "`{name}` names no gRPC service or method: write `package.Service` and `Method`"
            );
        }
        let mut methods = match self.0 {
            Rule::Methods(methods) => Arc::unwrap_or_clone(methods),
            others => Methods {
                by_path: HashMap::new(),
                others: Self(others),
            },
        };
        let path = format!("/{service}/{method}").into_boxed_str();
        let previous = methods.by_path.insert(path, limit.into());
        assert!(
            previous.is_none(),
            "the gRPC method `{service}/{method}` has a limit already: give it one"
        );
        Self(Rule::Methods(Arc::new(methods)))
    }

    /// Whether routes have limits of their own.
    #[cfg(feature = "axum")]
    pub(crate) fn is_by_route(&self) -> bool {
        match &self.0 {
            Rule::Fixed(_) | Rule::By(_) => false,
            Rule::Routes(_) => true,
            Rule::Methods(methods) => methods.limits().any(Self::is_by_route),
        }
    }

    /// The limit that is the same for all; `None` where the head decides.
    #[inline]
    pub(super) fn fixed(&self) -> Option<Option<u64>> {
        match &self.0 {
            Rule::Fixed(bytes) => Some(*bytes),
            _ => None,
        }
    }

    /// Returns the limit for a request in bytes, and `None` for no limit.
    #[cfg_attr(
        not(feature = "axum"),
        expect(
            clippy::only_used_in_recursion,
            reason = "only limits by route find something"
        )
    )]
    pub(super) fn for_request(&self, head: &Parts, found: &mut Found) -> Option<u64> {
        match &self.0 {
            Rule::Fixed(bytes) => *bytes,
            Rule::By(decide) => decide(head).for_request(head, found),
            #[cfg(feature = "axum")]
            Rule::Routes(routes) => Self::by_route(routes, head, found),
            Rule::Methods(methods) => {
                let limit = methods.by_path.get(head.uri.path());
                limit.unwrap_or(&methods.others).for_request(head, found)
            }
        }
    }

    /// Without a route, nobody knows which limit was meant for the request, and the smallest
    /// of all applies.
    #[cfg(feature = "axum")]
    fn by_route(routes: &Routes<Self>, head: &Parts, found: &mut Found) -> Option<u64> {
        let limit = match routes.find(head) {
            Matched::NoRoute => {
                let others = routes.others().for_request(head, found);
                let smallest = routes.own().fold(others, |smallest, limit| {
                    smaller(smallest, limit.for_request(head, found))
                });
                *found = Found::NoRoute {
                    stricter: smallest != others,
                };
                return smallest;
            }
            Matched::Both(one, other) => {
                smaller(one.for_request(head, found), other.for_request(head, found))
            }
            Matched::Route(limit) => limit.for_request(head, found),
        };
        *found = Found::Route;
        limit
    }
}

/// Returns the smaller of two limits, of which `None` is none.
#[cfg(feature = "axum")]
fn smaller(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (limit, None) | (None, limit) => limit,
    }
}

impl From<u64> for Limit {
    fn from(bytes: u64) -> Self {
        Self::max(bytes)
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::Fixed(Some(bytes)) => write!(f, "Limit({bytes} bytes)"),
            Rule::Fixed(None) => f.write_str("Limit(none)"),
            Rule::By(_) => f.write_str("Limit(by head)"),
            #[cfg(feature = "axum")]
            Rule::Routes(routes) => f.debug_tuple("Limit").field(routes).finish(),
            Rule::Methods(methods) => f
                .debug_struct("Limit")
                .field("grpc_methods", &methods.by_path)
                .field("others", &methods.others)
                .finish(),
        }
    }
}

/// Whether a layer has met requests with a route, and whether it has said that it met one
/// without.
#[cfg(feature = "axum")]
#[derive(Debug, Default)]
pub(super) struct Notice {
    has_route: AtomicBool,
    said: AtomicBool,
}

#[cfg(feature = "axum")]
impl Notice {
    /// Takes note of a request; whether it is to be said, once, that it has no route. Nothing
    /// is lost if a fallback gets the limit that most routes have.
    pub(super) fn is_due(&self, found: Found) -> bool {
        match found {
            Found::Unasked => false,
            Found::Route => {
                if !self.has_route.load(Ordering::Relaxed) {
                    self.has_route.store(true, Ordering::Relaxed);
                }
                false
            }
            Found::NoRoute { stricter } => {
                (stricter || !self.has_route.load(Ordering::Relaxed))
                    && !self.said.swap(true, Ordering::Relaxed)
            }
        }
    }
}

#[cfg(all(test, feature = "axum"))]
mod tests {
    use super::*;

    #[test]
    fn notice_is_due_once() {
        let notice = Notice::default();
        let lost = Found::NoRoute { stricter: true };
        assert!(!notice.is_due(Found::Unasked));
        assert!(notice.is_due(lost));
        assert!(!notice.is_due(lost));
    }

    #[test]
    fn notice_is_not_due_if_a_fallback_gets_the_common_limit() {
        let notice = Notice::default();
        assert!(!notice.is_due(Found::Route));
        assert!(!notice.is_due(Found::NoRoute { stricter: false }));
        assert!(notice.is_due(Found::NoRoute { stricter: true }));
    }

    #[test]
    fn notice_is_due_if_no_request_had_a_route() {
        assert!(Notice::default().is_due(Found::NoRoute { stricter: false }));
    }
}
