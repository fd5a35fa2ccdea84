//! The parts of a request's head that a refusal depends on.

use std::{
    any::{Any, type_name},
    fmt,
    net::SocketAddr,
    sync::Arc,
};

#[cfg(feature = "axum")]
use axum::extract::{ConnectInfo, MatchedPath};
use http::{HeaderMap, HeaderValue, Method, header::ACCEPT, request::Parts, uri::PathAndQuery};

use super::{format::RefusalFormat, grpc::GrpcCall};

/// The parts of a request that a refusal depends on. They are kept, because the handler may own
/// the head by the time of the refusal.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestContext {
    form: FormatHint,
    method: Option<Method>,
    target: Option<PathAndQuery>,
    #[cfg(feature = "axum")]
    route: Option<MatchedPath>,
    #[cfg(feature = "axum")]
    peer: Option<SocketAddr>,
    captured: Option<Captured>,
}

/// The header that determines the format of the response.
#[derive(Clone, Debug)]
enum FormatHint {
    /// The content type of a gRPC call.
    Grpc(GrpcCall),
    /// The `Accept` header of any other request.
    Accept(Option<HeaderValue>),
}

impl Default for FormatHint {
    fn default() -> Self {
        Self::Accept(None)
    }
}

/// A captured value, whose type only the application knows.
#[derive(Clone)]
pub(crate) struct Captured {
    value: Arc<dyn Any + Send + Sync>,
    type_name: &'static str,
}

impl Captured {
    pub(crate) fn new<T: Any + Send + Sync>(value: T) -> Self {
        Self {
            value: Arc::new(value),
            type_name: type_name::<T>(),
        }
    }

    pub(super) fn downcast_ref<T: 'static>(&self) -> Option<&T> {
        self.value.downcast_ref()
    }

    pub(super) fn type_name(&self) -> &'static str {
        self.type_name
    }
}

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Captured({})", self.type_name)
    }
}

impl RequestContext {
    pub(crate) fn of(head: &Parts, call: Option<GrpcCall>, captured: Option<Captured>) -> Self {
        Self {
            form: call.map_or_else(
                || FormatHint::Accept(accept(&head.headers)),
                FormatHint::Grpc,
            ),
            method: Some(head.method.clone()),
            target: head.uri.path_and_query().cloned(),
            #[cfg(feature = "axum")]
            route: head.extensions.get().cloned(),
            #[cfg(feature = "axum")]
            peer: head.extensions.get().map(|ConnectInfo(peer)| *peer),
            captured,
        }
    }

    pub(super) fn by_head(&self) -> bool {
        self.method == Some(Method::HEAD)
    }

    pub(super) fn method(&self) -> Option<&Method> {
        self.method.as_ref()
    }

    pub(super) fn path(&self) -> Option<&str> {
        self.target.as_ref().map(PathAndQuery::path)
    }

    #[cfg(feature = "axum")]
    pub(super) fn route(&self) -> Option<&str> {
        self.route.as_ref().map(MatchedPath::as_str)
    }

    #[cfg(not(feature = "axum"))]
    pub(super) fn route(&self) -> Option<&str> {
        None
    }

    #[cfg(feature = "axum")]
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    #[cfg(not(feature = "axum"))]
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        None
    }

    pub(super) fn captured(&self) -> Option<&Captured> {
        self.captured.as_ref()
    }

    pub(super) fn set_captured(&mut self, captured: Captured) {
        self.captured = Some(captured);
    }

    pub(super) fn take_captured(&mut self) -> Option<Captured> {
        self.captured.take()
    }

    pub(super) fn format(&self) -> RefusalFormat {
        match &self.form {
            FormatHint::Grpc(_) => RefusalFormat::Text,
            FormatHint::Accept(accept) => RefusalFormat::of(accept.as_ref()),
        }
    }

    /// Returns the gRPC call, or `None` if the request is not one.
    pub(crate) fn call(&self) -> Option<&GrpcCall> {
        match &self.form {
            FormatHint::Grpc(call) => Some(call),
            FormatHint::Accept(_) => None,
        }
    }
}

/// Returns the `Accept` header as one list. It rarely has several lines (RFC 9110 §5.3).
fn accept(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(ACCEPT).iter();
    let first = lines.next()?;
    let Some(second) = lines.next() else {
        return Some(first.clone());
    };
    let mut list = [first.as_bytes(), second.as_bytes()].join(&b", "[..]);
    for line in lines {
        list.extend_from_slice(b", ");
        list.extend_from_slice(line.as_bytes());
    }
    HeaderValue::from_bytes(&list).ok()
}
