use std::{fmt, sync::Arc};

use http::request::Parts;

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
/// let by_plan = Limit::by(|head| match head.extensions.get::<Paying>() {
///     Some(Paying) => Limit::bytes(100 * MIB),
///     None => Limit::bytes(2 * MIB),
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
pub struct Limit(Kind);

#[derive(Clone)]
enum Kind {
    /// `None` for no limit.
    Fixed(Option<u64>),
    By(Arc<ByHead>),
    #[cfg(feature = "axum")]
    Routes(Arc<Routes>),
}

type ByHead = dyn Fn(&Parts) -> Limit + Send + Sync;

/// Limits by the route that axum has matched.
#[cfg(feature = "axum")]
#[derive(Clone)]
struct Routes {
    by_path: std::collections::HashMap<Box<str>, Limit>,
    others: Limit,
}

impl Limit {
    /// At most so many bytes.
    #[must_use]
    pub const fn bytes(bytes: u64) -> Self {
        Self(Kind::Fixed(Some(bytes)))
    }

    /// No limit at all: the guard only looks at the head.
    ///
    /// ```
    /// use http::Method;
    /// use tower_bodyguard::{BodyGuardLayer, Limit, MIB};
    ///
    /// let limit = Limit::by(|head| match head.method {
    ///     Method::PUT => Limit::none(),
    ///     _ => Limit::bytes(2 * MIB),
    /// });
    /// let guard = BodyGuardLayer::new(limit);
    /// ```
    #[must_use]
    pub const fn none() -> Self {
        Self(Kind::Fixed(None))
    }

    /// What `decide` makes of the request's head: its method, path, content type,
    /// or extensions that outer layers have left. It runs once for each request,
    /// before the handler.
    ///
    /// # Panics in callbacks
    ///
    /// A panic goes through to the server: hyper drops the connection.
    pub fn by<F>(decide: F) -> Self
    where
        F: Fn(&Parts) -> Self + Send + Sync + 'static,
    {
        Self(Kind::By(Arc::new(decide)))
    }

    /// Another limit for one route of axum (feature `axum`), named as in `Router::route`:
    /// `/users/{id}/photo`. What is not named keeps the limit that this is called
    /// on.
    ///
    /// It works in layers of a `Router` and of its routes: these run when the route
    /// is known. Nested routers have their prefix in front, as in
    /// [`MatchedPath`](axum::extract::MatchedPath). In a layer around the whole
    /// router (`ServiceBuilder::service(router)`) no route is known yet, and what
    /// this is called on applies.
    ///
    /// ```
    /// use axum::{Router, body::Bytes, routing::post};
    /// use tower_bodyguard::{BodyGuardLayer, Limit, MIB};
    ///
    /// async fn count(body: Bytes) -> String {
    ///     body.len().to_string()
    /// }
    ///
    /// let limit = Limit::bytes(2 * MIB).route("/upload", 100 * MIB);
    /// let app: Router = Router::new()
    ///     .route("/comment", post(count))
    ///     .route("/upload", post(count))
    ///     .layer(BodyGuardLayer::new(limit).for_axum());
    /// ```
    #[cfg(feature = "axum")]
    #[must_use]
    pub fn route(self, path: &str, limit: impl Into<Self>) -> Self {
        let mut routes = match self.0 {
            Kind::Routes(routes) => Arc::unwrap_or_clone(routes),
            others => Routes {
                by_path: std::collections::HashMap::new(),
                others: Self(others),
            },
        };
        routes.by_path.insert(path.into(), limit.into());
        Self(Kind::Routes(Arc::new(routes)))
    }

    /// Whether routes have limits of their own.
    #[cfg(feature = "axum")]
    pub(super) fn is_by_route(&self) -> bool {
        matches!(self.0, Kind::Routes(_))
    }

    /// The limit that is the same for all; `None` where the head decides.
    #[inline]
    pub(super) fn fixed(&self) -> Option<Option<u64>> {
        match &self.0 {
            Kind::Fixed(bytes) => Some(*bytes),
            _ => None,
        }
    }

    /// The limit for a request, in bytes; `None` for no limit.
    pub(super) fn for_request(&self, head: &Parts) -> Option<u64> {
        match &self.0 {
            Kind::Fixed(bytes) => *bytes,
            Kind::By(decide) => decide(head).for_request(head),
            #[cfg(feature = "axum")]
            Kind::Routes(routes) => routes.limit(head).for_request(head),
        }
    }
}

#[cfg(feature = "axum")]
impl Routes {
    fn limit(&self, head: &Parts) -> &Limit {
        let matched = head.extensions.get::<axum::extract::MatchedPath>();
        let limit = matched.and_then(|path| self.by_path.get(path.as_str()));
        limit.unwrap_or(&self.others)
    }
}

impl From<u64> for Limit {
    fn from(bytes: u64) -> Self {
        Self::bytes(bytes)
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Fixed(Some(bytes)) => write!(f, "Limit({bytes} bytes)"),
            Kind::Fixed(None) => f.write_str("Limit(none)"),
            Kind::By(_) => f.write_str("Limit(by head)"),
            #[cfg(feature = "axum")]
            Kind::Routes(routes) => f
                .debug_struct("Limit")
                .field("routes", &routes.by_path)
                .field("others", &routes.others)
                .finish(),
        }
    }
}
