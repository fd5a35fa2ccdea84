use std::collections::{HashMap, hash_map::Entry};

use axum::{
    Router,
    extract::{MatchedPath, NestedPath},
    routing::MethodRouter,
};
use http::request::Parts;

/// A map from the paths of a router's routes, as the app writes them, to values.
#[derive(Clone, Debug)]
pub(super) struct Routes<T> {
    by_path: HashMap<Box<str>, T>,
    others: T,
}

/// The result of a lookup by the route that axum has matched.
pub(super) enum Matched<'a, T> {
    /// The request has a route.
    Route(&'a T),
    /// The route has two values: one for its full path, one for its path in the nested router.
    Both(&'a T, &'a T),
    /// The request has no route.
    NoRoute,
}

impl<T> Routes<T> {
    pub(super) fn new(others: T) -> Self {
        Self {
            by_path: HashMap::new(),
            others,
        }
    }

    #[track_caller]
    pub(super) fn insert(&mut self, path: &str, value: T) {
        match self.by_path.entry(path.into()) {
            Entry::Vacant(vacant) => vacant.insert(value),
            Entry::Occupied(_) => {
                panic!("the route `{path}` has a limit already: set its limit once")
            }
        };
    }

    /// Returns the value of the routes that have none of their own.
    pub(super) fn others(&self) -> &T {
        &self.others
    }

    /// Returns an iterator over the values of the routes that have one of their own.
    pub(super) fn own(&self) -> impl Iterator<Item = &T> {
        self.by_path.values()
    }

    pub(super) fn find(&self, head: &Parts) -> Matched<'_, T> {
        let Some(matched) = head.extensions.get::<MatchedPath>() else {
            return Matched::NoRoute;
        };
        let absolute = matched.as_str();
        let nested = head.extensions.get::<NestedPath>();
        let relative = nested.and_then(|nested| within(nested.as_str(), absolute));
        let mut written = [Some(absolute), relative]
            .into_iter()
            .filter_map(|path| self.by_path.get(path?));
        match (written.next(), written.next()) {
            (Some(one), Some(other)) => Matched::Both(one, other),
            (Some(value), None) => Matched::Route(value),
            (None, _) => Matched::Route(&self.others),
        }
    }
}

/// Returns the path as it is written in the router that is nested at `prefix`.
fn within<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    match path.strip_prefix(prefix.trim_end_matches('/'))? {
        "" => Some("/"),
        path => path.starts_with('/').then_some(path),
    }
}

/// Panics if `Router::route` would.
#[track_caller]
pub(super) fn check(path: &str) {
    assert!(
        path.starts_with('/'),
        "the path of a route must begin with `/`: write `/{path}` for `{path}`"
    );
    for segment in path.split('/') {
        // The syntax of axum 0.7.
        if let Some(name) = segment.strip_prefix(':') {
            panic!("the route `{path}` matches nothing: write `{{{name}}}` for `{segment}`");
        }
        if let Some(name) = segment.strip_prefix('*') {
            panic!("the route `{path}` matches nothing: write `{{*{name}}}` for `{segment}`");
        }
    }
    // axum checks the rest of the syntax.
    let _ = Router::<()>::new().route(path, MethodRouter::new());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_gives_the_path_in_the_nested_router() {
        assert_eq!(within("/api", "/api/login"), Some("/login"));
        assert_eq!(within("/api/", "/api/login"), Some("/login"));
        assert_eq!(within("/api", "/api"), Some("/"));
        assert_eq!(within("/api", "/apis"), None);
        assert_eq!(within("/api", "/login"), None);
    }
}
