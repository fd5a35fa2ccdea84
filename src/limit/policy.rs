#[cfg(feature = "axum")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::{collections::HashMap, fmt, sync::Arc};

use http::request::Parts;

#[cfg(feature = "axum")]
use super::routes::{Matched, Routes, check};

/// A limit for request bodies: a number of bytes, or a function of the request's head.
///
/// ```
/// use tower_bodyguard::{BodyGuardLayer, Limit, MIB};
///
/// // The same limit for all requests.
/// let fixed = BodyGuardLayer::new(2 * MIB);
///
/// // By anything in the head: here an extension that an outer layer has inserted.
/// #[derive(Clone)]
/// struct Paying;
///
/// let by_plan = Limit::from_fn(|head| match head.extensions.get::<Paying>() {
///     Some(Paying) => Limit::max(100 * MIB),
///     None => Limit::max(2 * MIB),
/// });
/// let layer = BodyGuardLayer::new(by_plan);
/// ```
///
/// A limit that reads an extension has to be inside the layer that inserts the extension. With
/// `Router::layer`, add that layer after the limit layer.
///
/// A limit layer determines the limit once for each request, before the handler runs. With nested
/// limit layers, the smallest limit applies. The layer that refuses the request also makes the
/// response. A declared length over several limits is refused by the outermost of those layers.
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
    #[cfg(feature = "axum")]
    Smallest(Arc<[Limit]>),
    WithoutBudget(Arc<Limit>),
    /// The limit in the request's extensions, or else this one.
    Extension(Arc<Limit>),
}

/// The limit of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    /// The maximum number of bytes, or `None` for no limit.
    pub(super) max: Option<u64>,
    /// Whether the body needs room in the layer's budget, if there is one.
    pub(super) needs_room: bool,
}

impl Applied {
    /// The limit of a request that none of several limits applies to.
    #[cfg(feature = "axum")]
    const NONE: Self = Self {
        max: None,
        needs_room: false,
    };

    /// Combines two limits of one request.
    #[cfg(feature = "axum")]
    fn and(self, other: Self) -> Self {
        let max = match (self.max, other.max) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (limit, None) | (None, limit) => limit,
        };
        let needs_room = self.needs_room || other.needs_room;
        Self { max, needs_room }
    }
}

/// gRPC methods that have limits of their own.
#[derive(Clone)]
struct Methods {
    /// The limits by the path of a call: `/package.Service/Method`.
    by_path: HashMap<Box<str>, Limit>,
    others: Limit,
}

/// The result of a limit by route for a request's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Found {
    /// The limit is not by route.
    #[default]
    Unasked,
    #[cfg(feature = "axum")]
    Route,
    #[cfg(feature = "axum")]
    NoRoute {
        /// Whether the limit is smaller than that of routes without their own limit.
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
    /// Admits at most `bytes` bytes.
    #[must_use]
    pub const fn max(bytes: u64) -> Self {
        Self(Rule::Fixed(Some(bytes)))
    }

    /// Sets no limit: the layer only inspects the head.
    ///
    /// Under `BodyGuardLayer::axum`, axum's extractors (`Bytes`, `String`, `Json` …) then have no
    /// limit at all, because the layer lifts axum's own limit of 2 MB. A client can make them fill
    /// the memory. Use this for handlers that stream.
    ///
    /// A [budget](crate::BodyBudget) applies to such a body: until the service responds, the body
    /// can become as long as the budget. Write `Limit::unlimited().without_budget()` for a handler
    /// that streams. The [minimum rate](crate::BodyGuardLayer::min_rate) and the timeouts of the
    /// layer do not apply.
    ///
    /// ```
    /// use http::Method;
    /// use tower_bodyguard::{BodyGuardLayer, Limit, MIB};
    ///
    /// let limit = Limit::from_fn(|head| match head.method {
    ///     Method::PUT => Limit::unlimited(),
    ///     _ => Limit::max(2 * MIB),
    /// });
    /// let layer = BodyGuardLayer::new(limit);
    /// ```
    #[must_use]
    pub const fn unlimited() -> Self {
        Self(Rule::Fixed(None))
    }

    /// Calls `decide` to get the limit for each request.
    ///
    /// It decides by the request's head: the method, path, content type, or the extensions that
    /// outer layers have inserted. It runs once for each request, before the handler.
    ///
    /// # Panics in callbacks
    ///
    /// A panic reaches the server: hyper drops the connection.
    pub fn from_fn<F>(decide: F) -> Self
    where
        F: Fn(&Parts) -> Self + Send + Sync + 'static,
    {
        Self(Rule::By(Arc::new(decide)))
    }

    /// Sets another limit for one axum route (feature `axum`).
    ///
    /// The route is named as in `Router::route`: `/users/{id}/photo`. Routes without their own
    /// limit keep the limit that this is called on.
    ///
    /// Add the layer with this limit to the `Router` that has the route ([`Router::layer`],
    /// `Router::route_layer`), or to a router that nests it. Write the path as in the router with
    /// the layer. In a nested router, the full path works as well, which is the
    /// [`MatchedPath`](axum::extract::MatchedPath). If both have a limit, the smaller one applies.
    ///
    /// # Requests without a route
    ///
    /// axum reports no route for a fallback, within `nest_service` and `fallback_service`, and to
    /// a layer around the whole router (`ServiceBuilder::service(router)`). **The smallest of all
    /// limits applies to such a request.** A limit by head is called then, even if it was set for
    /// a route.
    ///
    /// The layer reports this once: to its observer
    /// ([`Event::RouteUnknown`](crate::Event::RouteUnknown)), and to `tracing` (feature `tracing`),
    /// or to standard error in debug builds without that feature.
    ///
    /// # Limits that never apply
    ///
    /// axum does not tell a layer which routes exist. So a limit for a misspelled route never
    /// applies. The same is true of a route of another router behind a wildcard route
    /// (`route_service("/{*rest}", …)`).
    ///
    /// [`Router::layer`]: axum::Router::layer
    ///
    /// # Panics
    ///
    /// Panics if `Router::route` would panic for the path, for example for `upload` and `/:id`.
    /// Also panics if the route has a limit already, or if `limit` is by route itself.
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

    /// Sets another limit for one gRPC method.
    ///
    /// `service` and `method` are the names in the `.proto` file, the service with its package.
    /// Other requests keep the limit that this is called on.
    ///
    /// The limit counts all bytes of a call, including 5 bytes before each message. tonic limits
    /// the length of one message: 4 MiB, unless the service is made with
    /// `max_decoding_message_size`.
    ///
    /// The code that `tonic-build` generates has the service's name as a constant:
    /// `upload_server::SERVICE_NAME`. A method that does not exist is never called, and its
    /// limit never applies.
    ///
    /// # Panics
    ///
    /// Panics if a name is empty or has a `/`, or if the method has a limit already.
    ///
    /// ```
    /// use tower_bodyguard::{BodyGuardLayer, Limit, MIB};
    ///
    /// let limit = Limit::max(4 * MIB).grpc_method("chat.v1.Chat", "Talk", Limit::unlimited());
    /// let layer = BodyGuardLayer::new(limit);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn grpc_method(self, service: &str, method: &str, limit: impl Into<Self>) -> Self {
        for name in [service, method] {
            assert!(
                !name.is_empty() && !name.contains('/'),
                "`{name}` is not a gRPC service or method: write `package.Service` and `Method`"
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
            "the gRPC method `{service}/{method}` has a limit already: set its limit once"
        );
        Self(Rule::Methods(Arc::new(methods)))
    }

    /// Takes the limit from the request's extensions, where an outer layer has inserted a `Limit`,
    /// for example a middleware that looks up the user's plan. Requests without one get
    /// `otherwise`.
    ///
    /// # Panics in requests
    ///
    /// A request panics if the `Limit` in its extensions is itself from an extension.
    ///
    /// ```
    /// use tower_bodyguard::{BodyGuardLayer, Limit, MIB};
    ///
    /// let layer = BodyGuardLayer::new(Limit::from_extension(2 * MIB));
    ///
    /// let mut request = http::Request::new(());
    /// request.extensions_mut().insert(Limit::max(100 * MIB));
    /// ```
    #[must_use]
    pub fn from_extension(otherwise: impl Into<Self>) -> Self {
        Self(Rule::Extension(Arc::new(otherwise.into())))
    }

    /// Exempts the bodies with this limit from the layer's [budget](crate::BodyBudget).
    ///
    /// Use this for handlers that stream their body to a disk or to another server: they hold a
    /// chunk, and not the body. If several limits apply to a request, for example because its path
    /// matches no route, it is exempt only if all of them are.
    ///
    /// ```
    /// use tower_bodyguard::{BodyBudget, BodyGuardLayer, GIB, Limit, MIB};
    ///
    /// let limit = Limit::from_fn(|head| match head.uri.path() {
    ///     "/stream" => Limit::max(10 * GIB).without_budget(),
    ///     _ => Limit::max(100 * MIB),
    /// });
    /// let layer = BodyGuardLayer::new(limit).budget(&BodyBudget::max_bytes(512 * MIB));
    /// ```
    #[must_use]
    pub fn without_budget(self) -> Self {
        Self(Rule::WithoutBudget(Arc::new(self)))
    }

    /// Creates a limit that is the smallest of these for each request.
    #[cfg(feature = "axum")]
    pub(crate) fn smallest(limits: Vec<Self>) -> Self {
        Self(Rule::Smallest(limits.into()))
    }

    /// Returns whether routes have limits of their own.
    #[cfg(feature = "axum")]
    pub(crate) fn is_by_route(&self) -> bool {
        match &self.0 {
            Rule::Fixed(_) | Rule::By(_) => false,
            Rule::Routes(_) => true,
            Rule::Methods(methods) => methods.limits().any(Self::is_by_route),
            Rule::Smallest(limits) => limits.iter().any(Self::is_by_route),
            Rule::WithoutBudget(limit) | Rule::Extension(limit) => limit.is_by_route(),
        }
    }

    /// Returns the limit if it is the same for all requests, or `None` if the head decides.
    #[inline]
    pub(super) fn fixed(&self) -> Option<Option<u64>> {
        match &self.0 {
            Rule::Fixed(bytes) => Some(*bytes),
            Rule::WithoutBudget(limit) => limit.fixed(),
            _ => None,
        }
    }

    /// Returns the limit for a request.
    #[cfg_attr(
        not(feature = "axum"),
        expect(
            clippy::only_used_in_recursion,
            reason = "only limits by route find something"
        )
    )]
    pub(super) fn for_request(&self, head: &Parts, found: &mut Found) -> Applied {
        match &self.0 {
            Rule::Fixed(max) => Applied {
                max: *max,
                needs_room: true,
            },
            Rule::WithoutBudget(limit) => Applied {
                needs_room: false,
                ..limit.for_request(head, found)
            },
            Rule::By(decide) => decide(head).for_request(head, found),
            Rule::Extension(otherwise) => match head.extensions.get::<Self>() {
                None => otherwise.for_request(head, found),
                Some(limit) => {
                    assert!(
                        !matches!(limit.0, Rule::Extension(_)),
                        "the limit in the extensions is from the extensions: insert one in bytes"
                    );
                    limit.for_request(head, found)
                }
            },
            #[cfg(feature = "axum")]
            Rule::Routes(routes) => Self::by_route(routes, head, found),
            #[cfg(feature = "axum")]
            Rule::Smallest(limits) => limits.iter().fold(Applied::NONE, |smallest, limit| {
                smallest.and(limit.for_request(head, found))
            }),
            Rule::Methods(methods) => {
                let limit = methods.by_path.get(head.uri.path());
                limit.unwrap_or(&methods.others).for_request(head, found)
            }
        }
    }

    /// Returns the limit of the request's route. For a request without a route, the intended limit
    /// is unknown, and the smallest of all applies.
    #[cfg(feature = "axum")]
    fn by_route(routes: &Routes<Self>, head: &Parts, found: &mut Found) -> Applied {
        let limit = match routes.find(head) {
            Matched::NoRoute => {
                let others = routes.others().for_request(head, found);
                let smallest = routes.own().fold(others, |smallest, limit| {
                    smallest.and(limit.for_request(head, found))
                });
                *found = Found::NoRoute {
                    stricter: smallest.max != others.max,
                };
                return smallest;
            }
            Matched::Both(one, other) => one
                .for_request(head, found)
                .and(other.for_request(head, found)),
            Matched::Route(limit) => limit.for_request(head, found),
        };
        *found = Found::Route;
        limit
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
            #[cfg(feature = "axum")]
            Rule::Smallest(limits) => f.debug_tuple("Smallest").field(limits).finish(),
            Rule::Extension(limit) => f.debug_tuple("FromExtension").field(limit).finish(),
            Rule::WithoutBudget(limit) => f.debug_tuple("WithoutBudget").field(limit).finish(),
            Rule::Methods(methods) => f
                .debug_struct("Limit")
                .field("grpc_methods", &methods.by_path)
                .field("others", &methods.others)
                .finish(),
        }
    }
}

/// A flag that makes a layer report once that requests have no route.
#[cfg(feature = "axum")]
#[derive(Debug, Default)]
pub(super) struct Notice {
    /// Whether the layer has met a request with a route.
    has_route: AtomicBool,
    has_reported: AtomicBool,
}

#[cfg(feature = "axum")]
impl Notice {
    /// Records a request. Returns whether to report that it has no route.
    ///
    /// There is nothing to report if other requests have routes, and this one gets the limit of
    /// routes without their own. It goes to a fallback, which has that limit then.
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
                    && !self.has_reported.swap(true, Ordering::Relaxed)
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
        let no_route = Found::NoRoute { stricter: true };
        assert!(!notice.is_due(Found::Unasked));
        assert!(notice.is_due(no_route));
        assert!(!notice.is_due(no_route));
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
