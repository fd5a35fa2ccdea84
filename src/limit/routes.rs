use std::{
    collections::{HashMap, hash_map::Entry},
    sync::atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    extract::{MatchedPath, NestedPath},
    routing::MethodRouter,
};
use http::request::Parts;

use super::{Limit, policy::Found};

/// Limits by the route that axum has matched.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    by_path: HashMap<Box<str>, Limit>,
    others: Limit,
}

impl Routes {
    pub(super) fn new(others: Limit) -> Self {
        Self {
            by_path: HashMap::new(),
            others,
        }
    }

    #[track_caller]
    pub(super) fn insert(&mut self, path: &str, limit: Limit) {
        check(path);
        assert!(
            !limit.is_by_route(),
            "the limit of the route `{path}` is by route itself: give each route one limit"
        );
        match self.by_path.entry(path.into()) {
            Entry::Vacant(vacant) => vacant.insert(limit),
            Entry::Occupied(_) => panic!("the route `{path}` has a limit already: give it one"),
        };
    }

    /// Returns the limit in bytes, and `None` for no limit.
    ///
    /// Without a route, nobody knows which limit was meant for the request, and the smallest
    /// of all applies.
    pub(super) fn for_request(&self, head: &Parts, found: &mut Found) -> Option<u64> {
        let Some(matched) = head.extensions.get::<MatchedPath>() else {
            let others = self.others.for_request(head, found);
            let limits = self.by_path.values();
            let smallest = limits.fold(others, |smallest, limit| {
                smaller(smallest, limit.for_request(head, found))
            });
            *found = Found::NoRoute {
                stricter: smallest != others,
            };
            return smallest;
        };
        let absolute = matched.as_str();
        let nested = head.extensions.get::<NestedPath>();
        let relative = nested.and_then(|nested| within(nested.as_str(), absolute));
        let mut written = [Some(absolute), relative]
            .into_iter()
            .filter_map(|path| self.by_path.get(path?));
        let limit = match (written.next(), written.next()) {
            (Some(one), Some(other)) => {
                smaller(one.for_request(head, found), other.for_request(head, found))
            }
            (Some(limit), None) => limit.for_request(head, found),
            (None, _) => self.others.for_request(head, found),
        };
        *found = Found::Route;
        limit
    }
}

/// Returns the smaller of two limits, of which `None` is none.
fn smaller(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (limit, None) | (None, limit) => limit,
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
fn check(path: &str) {
    assert!(
        path.starts_with('/'),
        "the path of a route begins with `/`: write `/{path}` for `{path}`"
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
    // The rest of the syntax is axum's to check.
    let _ = Router::<()>::new().route(path, MethodRouter::new());
}

/// Whether a layer has met requests with a route, and whether it has said that it met one
/// without.
#[derive(Debug, Default)]
pub(super) struct Notice {
    has_route: AtomicBool,
    said: AtomicBool,
}

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
