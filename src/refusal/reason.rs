use std::{
    any::{Any, type_name},
    net::SocketAddr,
    sync::Once,
    time::Duration,
};

use http::{Method, StatusCode, request::Parts};

use super::{
    format::RefusalFormat,
    grpc::GrpcCall,
    request::{Captured, RequestContext},
};
use crate::warn::warn;

/// The reason why a request was refused, with the numbers.
///
/// [`refusal_response`](crate::BodyGuardLayer::refusal_response) makes the response from it. It is
/// also in the extensions of the response, so that outer layers can count and log it.
///
/// [`message`](Self::message) is the text for the client, and `Display` is the text for logs, with
/// exact numbers. Neither names a limit that [is hidden](crate::BodyGuardLayer::hide_limit).
///
/// ```
/// use axum::{Router, body::Body, http::{Request, Response}, routing::post};
/// use tower::ServiceExt;
/// use tower_bodyguard::{BodyGuardLayer, Refusal};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// fn log(response: &Response<Body>) {
///     if let Some(refusal) = response.extensions().get::<Refusal>() {
///         eprintln!("{refusal}");
///     }
/// }
///
/// let app: Router = Router::new()
///     .route("/", post(|body: String| async { body }))
///     .layer(BodyGuardLayer::new(4));
/// let request = Request::post("/").body(Body::from("hello")).unwrap();
/// let response = app.oneshot(request).await.unwrap();
/// log(&response);
/// assert_eq!(response.extensions().get::<Refusal>().unwrap().limit(), Some(4));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Refusal {
    kind: RefusalKind,
    status: StatusCode,
    limit: Option<u64>,
    secret: bool,
    announces_limit: bool,
    retry_slow_after: Option<Duration>,
    request: RequestContext,
}

/// The kind of a [`Refusal`].
///
/// ```
/// use tower_bodyguard::{Refusal, limit::RefusalKind};
///
/// fn label(refusal: &Refusal) -> &'static str {
///     match refusal.kind() {
///         RefusalKind::Declared { .. } | RefusalKind::Streamed { .. } => "too large",
///         RefusalKind::BadLength | RefusalKind::LengthRequired => "length",
///         _ => "other",
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalKind {
    /// `Content-Length` declares more bytes than the limit. The handler did not run.
    Declared {
        /// The declared length, in bytes.
        length: u64,
    },
    /// More bytes than the limit arrived.
    Streamed {
        /// The number of bytes received when the body went over the limit. The length of the
        /// whole body is unknown.
        received: u64,
    },
    /// The body was slower than the [minimum rate](crate::BodyGuardLayer::min_rate).
    TooSlow {
        /// The minimum rate, in bytes per second.
        rate: u64,
    },
    /// The client was silent for longer than the
    /// [idle timeout](crate::BodyGuardLayer::idle_timeout).
    IdleTimeout {
        /// The idle timeout.
        timeout: Duration,
    },
    /// The body did not end before its [deadline](crate::BodyGuardLayer::deadline).
    DeadlineExceeded {
        /// The deadline, as the time since the service was called.
        deadline: Duration,
    },
    /// There is no room in the [budget](crate::BodyBudget) for the body.
    OverBudget {
        /// When to try again: the response's `Retry-After`, in whole seconds.
        retry_after: Duration,
    },
    /// `Content-Length` is not one decimal number that fits 64 bits, or there
    /// are several that differ (RFC 9110 §8.6). The handler did not run.
    BadLength,
    /// The length of the body is unknown, and a length is
    /// [required](crate::BodyGuardLayer::require_content_length). The handler did not run.
    LengthRequired,
}

impl RefusalKind {
    /// The labels of all kinds.
    #[cfg(feature = "metrics")]
    pub(crate) const LABELS: [&str; 8] = [
        "declared",
        "streamed",
        "too_slow",
        "idle_timeout",
        "deadline",
        "over_budget",
        "bad_length",
        "length_required",
    ];

    /// Returns the kind as one word for labels and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Declared { .. } => "declared",
            Self::Streamed { .. } => "streamed",
            Self::TooSlow { .. } => "too_slow",
            Self::IdleTimeout { .. } => "idle_timeout",
            Self::DeadlineExceeded { .. } => "deadline",
            Self::OverBudget { .. } => "over_budget",
            Self::BadLength => "bad_length",
            Self::LengthRequired => "length_required",
        }
    }

    /// Returns whether the client sent the body too slowly.
    pub(crate) fn is_slow(self) -> bool {
        self.status(StatusCode::PAYLOAD_TOO_LARGE) == StatusCode::REQUEST_TIMEOUT
    }

    /// Returns the status of such a refusal. `for_size` is the layer's status for a body over the
    /// limit.
    pub(crate) fn status(self, for_size: StatusCode) -> StatusCode {
        match self {
            Self::Declared { .. } | Self::Streamed { .. } => for_size,
            Self::TooSlow { .. } | Self::IdleTimeout { .. } | Self::DeadlineExceeded { .. } => {
                StatusCode::REQUEST_TIMEOUT
            }
            Self::OverBudget { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadLength => StatusCode::BAD_REQUEST,
            Self::LengthRequired => StatusCode::LENGTH_REQUIRED,
        }
    }
}

/// Constructors and setters for tests.
impl Refusal {
    /// Makes a refusal, to test code that responds to it or logs it.
    ///
    /// The limit is in bytes, and `None` stands for no limit. The status is the default of the
    /// layer.
    ///
    /// ```
    /// use http::{Response, StatusCode};
    /// use tower_bodyguard::{MIB, Refusal, limit::RefusalKind};
    ///
    /// fn refused(refusal: &Refusal) -> Response<String> {
    ///     let mut response = Response::new(format!("Sorry. {}", refusal.message()));
    ///     *response.status_mut() = refusal.status();
    ///     response
    /// }
    ///
    /// let refusal = Refusal::new(RefusalKind::Declared { length: 20 * MIB }, 4 * MIB);
    /// let response = refused(&refusal);
    /// assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    /// let body = "Sorry. Upload too large: 20 MiB. The limit is 4 MiB. Choose a smaller file.";
    /// assert_eq!(response.body(), body);
    /// ```
    pub fn new(kind: RefusalKind, limit: impl Into<Option<u64>>) -> Self {
        let status = kind.status(StatusCode::PAYLOAD_TOO_LARGE);
        Self::of(kind, status, limit.into(), RequestContext::default())
    }

    /// Sets the status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Sets the head of the refused request, which determines the [`format`](Self::format), the
    /// [`method`](Self::method), the [`path`](Self::path) and the [`route`](Self::route).
    #[must_use]
    pub fn with_head(mut self, head: &Parts) -> Self {
        let captured = self.request.take_captured();
        self.request = RequestContext::of(head, GrpcCall::of(head), captured);
        self
    }

    /// Sets the value that [`capture`](crate::BodyGuardLayer::capture) would return.
    #[must_use]
    pub fn with_captured<T: Any + Send + Sync>(mut self, captured: T) -> Self {
        self.request.set_captured(Captured::new(captured));
        self
    }
}

impl Refusal {
    pub(crate) fn of(
        kind: RefusalKind,
        status: StatusCode,
        limit: Option<u64>,
        request: RequestContext,
    ) -> Self {
        Self {
            kind,
            status,
            limit,
            secret: false,
            announces_limit: false,
            retry_slow_after: None,
            request,
        }
    }

    /// Hides the limit from the client.
    pub(crate) fn secret(mut self, secret: bool) -> Self {
        self.secret = secret;
        self
    }

    /// Lets the response have the header `Upload-Limit`.
    pub(crate) fn announcing_limit(mut self, announces: bool) -> Self {
        self.announces_limit = announces;
        self
    }

    /// Sets when the client of a body that was too slow is to try again.
    pub(crate) fn retry_slow_after(mut self, delay: Option<Duration>) -> Self {
        self.retry_slow_after = delay;
        self
    }

    /// Returns the status for the response.
    ///
    /// - 413 for a body over the limit, unless the layer sets
    ///   [another status](crate::BodyGuardLayer::status),
    /// - 400 for a bad `Content-Length`,
    /// - 411 for a missing `Content-Length`,
    /// - 408 for a body that was too slow,
    /// - 503 for a body without room in the [budget](crate::BodyBudget).
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the kind of the refusal.
    #[must_use]
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// Returns the limit that applied, in bytes, or `None` if there was none.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Returns when the client is to try again, or `None` if that is unknown. The layer sends it as
    /// `Retry-After`, unless the response has that header already.
    ///
    /// - After a refusal for lack of room, it is that of the
    ///   [budget](crate::BodyBudgetConfig::retry_after).
    /// - For a body that was too slow, it is that of
    ///   [the layer](crate::BodyGuardLayer::retry_after), if it is set.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self.kind {
            RefusalKind::OverBudget { retry_after } => Some(retry_after),
            kind if kind.is_slow() => self.retry_slow_after,
            _ => None,
        }
    }

    /// Returns the limit for the header `Upload-Limit`, or `None` if that is off.
    pub(crate) fn announced_limit(&self) -> Option<u64> {
        self.shown_limit().filter(|_| self.announces_limit)
    }

    /// Returns the limit unless it is hidden from the client.
    pub(crate) fn shown_limit(&self) -> Option<u64> {
        self.limit.filter(|_| !self.secret)
    }

    /// Returns whether the limit is hidden from the client, see
    /// [`hide_limit`](crate::BodyGuardLayer::hide_limit).
    #[must_use]
    pub fn is_limit_hidden(&self) -> bool {
        self.secret
    }

    /// Returns the length that the request declared, in bytes, if that was over the limit.
    #[must_use]
    pub fn declared(&self) -> Option<u64> {
        match self.kind {
            RefusalKind::Declared { length } => Some(length),
            _ => None,
        }
    }

    /// Returns the number of bytes received when the body went over the limit, if that happened
    /// while the body streamed.
    #[must_use]
    pub fn received(&self) -> Option<u64> {
        match self.kind {
            RefusalKind::Streamed { received } => Some(received),
            _ => None,
        }
    }

    /// Returns the method of the request, or `None` if the refusal was [made](Self::new) without a
    /// head.
    #[must_use]
    pub fn method(&self) -> Option<&Method> {
        self.request.method()
    }

    /// Returns the path of the request as the layer saw it, without the query, or `None` if the
    /// request had none. A nested router removes its prefix.
    ///
    /// Clients choose it, so do not use it as the label of a metric. Use the
    /// [`route`](Self::route).
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.request.path()
    }

    /// Returns the route that axum matched, such as `/users/{id}`, with the feature `axum`.
    ///
    /// It is `None` outside of axum and in a fallback. It is also `None` if the layer is around the
    /// whole router, which has not matched a route yet.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        self.request.route()
    }

    /// Returns the client's address if axum's `ConnectInfo<SocketAddr>` is in the request's
    /// extensions, with the feature `axum`. Behind a proxy, it is the proxy's address.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.request.peer()
    }

    /// Returns the format that the client prefers.
    #[must_use]
    pub fn format(&self) -> RefusalFormat {
        self.request.format()
    }

    /// Returns the value that [`capture`](crate::BodyGuardLayer::capture) took from the request's
    /// head, or `None` if that is not set. It is also `None` if the value is not a `T`, for
    /// example because the refusal comes from another limit layer. The process logs that once.
    #[must_use]
    pub fn captured<T: 'static>(&self) -> Option<&T> {
        let captured = self.request.captured()?;
        let value = captured.downcast_ref();
        if value.is_none() {
            report_type(captured.type_name(), type_name::<T>());
        }
        value
    }

    /// Returns the refused gRPC call, or `None` if the request is not one.
    pub(crate) fn call(&self) -> Option<&GrpcCall> {
        self.request.call()
    }

    /// Returns whether the request was a HEAD request, whose response has no body.
    pub(crate) fn by_head(&self) -> bool {
        self.request.by_head()
    }

    /// Returns a title: the name of the status in RFC 9110 §15, except for a bad length.
    pub(crate) fn title(&self) -> &'static str {
        match self.kind {
            RefusalKind::Declared { .. } | RefusalKind::Streamed { .. } => "Content Too Large",
            RefusalKind::TooSlow { .. }
            | RefusalKind::IdleTimeout { .. }
            | RefusalKind::DeadlineExceeded { .. } => "Request Timeout",
            RefusalKind::OverBudget { .. } => "Service Unavailable",
            RefusalKind::BadLength => "Bad Content-Length",
            RefusalKind::LengthRequired => "Length Required",
        }
    }
}

#[cold]
fn report_type(has: &str, asked: &str) {
    static REPORTED: Once = Once::new();
    REPORTED.call_once(|| {
        warn(format_args!(
            "`Refusal::captured` is `None`: `capture` returns `{has}`, and not `{asked}`"
        ));
    });
}
