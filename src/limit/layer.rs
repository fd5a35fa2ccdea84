use std::{any::Any, marker::PhantomData, sync::Arc, time::Duration};

use http::{StatusCode, request::Parts};
use tower_layer::Layer;

use super::{BodyBudget, BodyGuard, Limit, PlainText, headers::whole_seconds, settings::Settings};
use crate::{budget::Least, observe::Observer};

/// A layer that limits the request bodies of a service.
///
/// # Responses to refused requests
///
/// - `Content-Length` over the limit: 413 immediately. The service is not called.
/// - More bytes than the limit while the body streams: 413, no matter how the service treats the
///   error at the end of its body, unless it panics. The service runs to its end, and its response
///   is dropped. A response that has begun is [aborted](super::ResponseAborted).
/// - A `Content-Length` that is not a number, or several that differ: 400.
/// - No length, if one is [required](Self::require_content_length): 411.
/// - A body slower than the [minimum rate](Self::min_rate), silent for longer than the
///   [idle timeout](Self::idle_timeout), or later than the [deadline](Self::deadline), if these
///   are set: 408.
/// - No room for the body in the [budget](Self::budget), if there is one: 503 with `Retry-After`.
///
/// A body of exactly `limit` bytes passes.
///
/// # gRPC
///
/// The layer recognizes a gRPC call by its content type: `application/grpc` over HTTP/2 and
/// later, gRPC-Web over any version. It refuses the call with HTTP 200, a `grpc-message` with the
/// numbers, and a `grpc-status`, no matter which status or response is set:
///
/// - 8 (`RESOURCE_EXHAUSTED`) for a body over the limit,
/// - 3 (`INVALID_ARGUMENT`) for a bad or missing length,
/// - 4 (`DEADLINE_EXCEEDED`) for a body that is too slow,
/// - 14 (`UNAVAILABLE`) for a body without room in the budget.
///
/// `grpc-retry-pushback-ms` tells a client with a retry policy not to repeat a call that would be
/// refused again, and when to repeat one without room.
///
/// The layer sends these as headers. For gRPC-Web and its text form, it repeats them in the body.
/// A response that has begun ends with them as trailers, or is aborted if a gRPC-Web message is
/// half sent. In a service without gRPC, [`grpc_refusals(false)`](Self::grpc_refusals) refuses all
/// requests alike.
///
/// **The limit counts all bytes of a call**: all messages that the client streams together, and
/// 5 bytes before each. Exempt a stream that lasts for hours with [`Limit::grpc_method`].
///
/// # Example
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use http_body_util::{BodyExt, Full};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_bodyguard::{BodyGuardLayer, GuardedBody, MIB};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// async fn echo(
///     request: Request<GuardedBody<Full<Bytes>>>,
/// ) -> Result<Response<Full<Bytes>>, tower_bodyguard::BoxError> {
///     let body = request.into_body().collect().await?.to_bytes();
///     Ok(Response::new(Full::new(body)))
/// }
///
/// let service = ServiceBuilder::new()
///     .layer(BodyGuardLayer::new(4 * MIB))
///     .service_fn(echo);
///
/// let request = Request::new(Full::from(vec![0; 5_000_000]));
/// let response = service.oneshot(request).await.unwrap();
/// assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
/// # }
/// ```
///
/// # Caveats
///
/// **The layer alone sends the right response, but hyper closes the connection while the client
/// still sends, and the response is lost.** The socket wrapper [`Linger`](crate::Linger)
/// prevents that.
#[derive(Debug)]
pub struct BodyGuardLayer<R = PlainText, K = AnyService> {
    settings: Arc<Settings>,
    respond: R,
    kind: PhantomData<fn() -> K>,
}

/// The kind of [`BodyGuardLayer`] that [`BodyGuardLayer::new`] makes: for any service.
#[derive(Debug)]
pub enum AnyService {}

impl BodyGuardLayer {
    /// Refuses bodies over `limit`: a number of bytes, or a [`Limit`].
    ///
    /// This works with any tower service. In an axum app, use `BodyGuardLayer::axum` (feature
    /// `axum`), which lifts axum's own limit of 2 MB for extractors. This constructor leaves that
    /// limit in force, and the layer reports the first body that axum's limit refuses, once:
    /// [`Event::SmallerLimit`](crate::Event::SmallerLimit).
    pub fn new(limit: impl Into<Limit>) -> Self {
        Self::from_settings(Settings::new(limit.into()))
    }
}

impl<R, K> BodyGuardLayer<R, K> {
    /// Sets the status for a body over the limit. Default: 413.
    ///
    /// It does not change the other refusals: 400 for a malformed `Content-Length`, 411 for a
    /// missing one, 408 for a body that is too slow, 503 for one without room in the budget.
    ///
    /// # Panics
    ///
    /// Panics if the status is not an error (4xx or 5xx).
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let layer = BodyGuardLayer::new(4 * MIB).status(StatusCode::BAD_REQUEST);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn status(mut self, status: StatusCode) -> Self {
        assert!(
            status.is_client_error() || status.is_server_error(),
            "{status} is not an error status: write a status of 400 to 599"
        );
        self.set().status = status;
        self
    }

    /// Responds with 411 to a body of unknown length.
    ///
    /// The length is unknown with chunked coding, over HTTP/2 without `Content-Length`, and inside
    /// a layer that decompresses. A request without a body needs no length.
    ///
    /// ```
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let layer = BodyGuardLayer::new(4 * MIB).require_content_length();
    /// ```
    #[must_use]
    pub fn require_content_length(mut self) -> Self {
        self.set().require_length = true;
        self
    }

    /// Sets whether gRPC calls are refused with a gRPC status. Default: true.
    ///
    /// Such a refusal has the HTTP status 200, and the `Content-Type` that the client sends is
    /// enough to cause it. In a service without gRPC, set `false`: the layer then refuses these
    /// requests like all others.
    ///
    /// ```
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let layer = BodyGuardLayer::new(4 * MIB).grpc_refusals(false);
    /// ```
    #[must_use]
    pub fn grpc_refusals(mut self, grpc_refusals: bool) -> Self {
        self.set().grpc_refusals = grpc_refusals;
        self
    }

    /// Hides the limit from the client.
    ///
    /// No text of a [`Refusal`](crate::Refusal) names the limit then.
    /// [`limit()`](crate::Refusal::limit) still returns it, for logs.
    ///
    /// ```
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let layer = BodyGuardLayer::new(4 * MIB).hide_limit();
    /// ```
    #[must_use]
    pub fn hide_limit(mut self) -> Self {
        self.set().hide_limit = true;
        self
    }

    /// Adds `Upload-Limit: max-size=…` to the refusals, with the limit in bytes. Default: off, while
    /// the header is an Internet-Draft (draft-ietf-httpbis-resumable-upload).
    ///
    /// A client can then choose a smaller body without reading the text. Behind CORS, scripts see
    /// the header only if it is exposed.
    ///
    /// The header is not added if the response has it, if the limit [is hidden](Self::hide_limit),
    /// or to a refused gRPC call.
    ///
    /// ```
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let layer = BodyGuardLayer::new(4 * MIB).upload_limit_header();
    /// ```
    #[must_use]
    pub fn upload_limit_header(mut self) -> Self {
        self.set().announces_limit = true;
        self
    }

    /// Adds `Upload-Limit` to the responses to OPTIONS requests, too, so that a client can ask for
    /// the limit before it uploads. Without a limit, the header is `min-size=0`.
    ///
    /// **In the draft, this header tells a client that the URL supports resumable uploads.** Turn it
    /// on if the service does, and lets the layer limit them. The service has to respond to OPTIONS:
    /// the layer only adds the header. A CORS layer around this one responds to preflight requests
    /// by itself, without the header.
    ///
    /// It includes [`upload_limit_header`](Self::upload_limit_header). A layer with this setting
    /// looks at the whole head of each request.
    #[must_use]
    pub fn upload_limit_on_options(mut self) -> Self {
        let settings = self.set();
        settings.announces_limit = true;
        settings.announces_on_options = true;
        self
    }

    /// Adds `Retry-After` to the 408 for a body that was too slow, silent or late, in whole seconds,
    /// rounded up. Default: none.
    ///
    /// The layer does not know when the client's network is faster, so it sends no such header by
    /// itself. Set one if many clients time out together, so that they do not come back at once.
    /// The 503 for lack of room has a [`Retry-After`](crate::BodyBudgetConfig::retry_after) in any
    /// case. A 413 has none, because the same body would be refused again.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let layer = BodyGuardLayer::new(4 * MIB)
    ///     .idle_timeout(Duration::from_secs(30))
    ///     .retry_after(Duration::from_secs(10));
    /// ```
    #[must_use]
    pub fn retry_after(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.set().retry_after = delay.into().map(whole_seconds);
        self
    }

    /// Lets the handler respond to a body that goes over the limit while it streams.
    ///
    /// The handler's response is sent unchanged, with the [`Refusal`](crate::Refusal) in its
    /// extensions. If the request declares a length over the limit, the layer still refuses it.
    ///
    /// A body that is too slow, or has no room in the budget, is refused by the layer in any case,
    /// unless the handler's response has begun.
    ///
    /// The handler gets an error from the body. axum's extractors respond to it with 413. Behind
    /// another limit, or layers that box the body, some respond with 400 or 500. A
    /// [`BodyLimitStatus`](super::BodyLimitStatus) in the request's extensions has the numbers.
    ///
    /// **A handler that takes the error for the end of the body accepts half an upload as a
    /// complete one.** That is why this is off by default.
    #[must_use]
    pub fn keep_handler_response(mut self) -> Self {
        self.set().keep_handler_response = true;
        self
    }

    /// Responds with 408 to a body that arrives slower than `rate` bytes per second, once `grace`
    /// is over.
    ///
    /// Default: no minimum rate. `None` or 0 sets none either. Kestrel's values are 240 bytes per
    /// second and 5 s.
    ///
    /// The rate does not apply to a body with [no limit](Limit::unlimited). It costs three
    /// allocations for each body, and one more if the handler has to wait for the client. The 408
    /// is delivered like any other early response.
    ///
    /// The client has a credit of time:
    ///
    /// - It starts with `grace`, and grows by 1 s for each `rate` bytes.
    /// - It shrinks only while the handler waits for the client. A slow handler, or one that does
    ///   not read, does not use it up.
    /// - It is at most `grace`, or 1 s if that is more. A client cannot send fast at first and be
    ///   silent later.
    ///
    /// # HTTP/2 and HTTP/3
    ///
    /// Over HTTP/2 the streams of a connection share one flow-control window. If a handler does
    /// not read its body, the unread data can fill that window, and no other stream can send. The
    /// client is not charged for that time.
    ///
    /// Only `tower_bodyguard::axum::serve` and [`Linger::wrap`](crate::Linger::wrap) measure that
    /// time. **Without one of them, the rate does not apply over HTTP/2.** It never applies over
    /// HTTP/3, nor if an outer layer reads the body in a task of its own.
    ///
    /// # Timeouts of tower-http
    ///
    /// `RequestBodyTimeoutLayer` and `RequestBodyDeadlineLayer` are similar to
    /// [`idle_timeout`](Self::idle_timeout) and [`deadline`](Self::deadline), with two differences.
    /// The timeout also counts time for which other HTTP/2 streams hold the window. The deadline
    /// also ends a body that a slow handler still reads. Both pass an error to the handler, and
    /// axum's extractors respond to it with 400. That response is delivered like any other early
    /// response. Both layers can be combined with this rate.
    ///
    /// # Panics
    ///
    /// The body panics when it waits for the client outside of a tokio runtime with timers.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let layer = BodyGuardLayer::new(4 * MIB).min_rate(240, Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn min_rate(mut self, rate: impl Into<Option<u64>>, grace: Duration) -> Self {
        let rate = rate.into().filter(|rate| *rate > 0);
        self.set().pace.least = rate.map(|rate| Least { rate, grace });
        self
    }

    /// Responds with 408 when the client has sent nothing for this long while the handler waits for
    /// it.
    ///
    /// Default: no timeout. `None` or zero sets none either. The time that counts is that of
    /// [`min_rate`](Self::min_rate): a slow handler does not use it up, and over HTTP/2 neither do
    /// other streams. The timeout does not apply where the rate does not.
    ///
    /// With a minimum rate, a silent client is refused when its grace is over. A longer idle timeout
    /// has no effect then. Without a rate, a client can hold the connection by a byte now and then.
    ///
    /// # Panics
    ///
    /// The body panics when it waits for the client outside of a tokio runtime with timers.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let layer = BodyGuardLayer::new(4 * MIB).idle_timeout(Duration::from_secs(30));
    /// ```
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.set().pace.idle_timeout = timeout.into().filter(|timeout| !timeout.is_zero());
        self
    }

    /// Responds with 408 when the handler still waits for the client this long after the service
    /// was called.
    ///
    /// Default: no deadline. `None` or zero sets none either. It applies over every version of
    /// HTTP, but not to a body with [no limit](Limit::unlimited).
    ///
    /// - A handler that is slower than its client never waits, so its body is read to the end even
    ///   after the deadline.
    /// - A handler that pauses uses up the client's time.
    /// - If the body waits for room in a [budget](Self::budget), the time starts when it has room.
    ///
    /// A deadline that suits small bodies is too short for large ones. Prefer
    /// [`min_rate`](Self::min_rate), which gives a body the time that its length needs.
    ///
    /// # Panics
    ///
    /// The body panics when it waits for the client outside of a tokio runtime with timers.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let layer = BodyGuardLayer::new(4 * MIB).deadline(Duration::from_secs(300));
    /// ```
    #[must_use]
    pub fn deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.set().pace.deadline = deadline.into().filter(|deadline| !deadline.is_zero());
        self
    }

    /// Reserves room for each body in a budget, which other layers and servers may share. A
    /// request that finds none is refused with 503, see [`BodyBudget`].
    ///
    /// The budget costs one allocation for each request with a body, and a short lock when the body
    /// takes room and gives it back.
    ///
    /// ```
    /// use tower_bodyguard::{BodyBudget, BodyGuardLayer, MIB};
    ///
    /// let budget = BodyBudget::max_bytes(512 * MIB);
    /// let guard = BodyGuardLayer::new(100 * MIB).budget(&budget);
    /// ```
    #[must_use]
    pub fn budget(mut self, budget: &BodyBudget) -> Self {
        self.set().budget = Some(budget.clone());
        self
    }

    /// Sets the observer, which is notified of each refusal.
    ///
    /// It is notified when the layer refuses the head or the body, no matter which response the
    /// client gets: the refusal, a response that had begun, or that of an outer timeout.
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.set().observer = observer;
        self
    }

    /// Captures a value from the head of a request, for [`Refusal::captured`].
    ///
    /// The head itself belongs to the handler by the time that a body goes over the limit.
    ///
    /// `capture` runs for each refused request, and for each request that the layer may refuse
    /// later. It costs one allocation each time. The layer may refuse these bodies later:
    ///
    /// - a body whose size hint has no upper bound, or one above the limit,
    /// - any body, if there is a [minimum rate](Self::min_rate), an [idle
    ///   timeout](Self::idle_timeout), a [deadline](Self::deadline) or a [budget](Self::budget).
    ///
    /// Without a budget, this does not apply to a body with [no limit](Limit::unlimited).
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use axum::{Router, routing::post};
    /// use tower_bodyguard::{BodyGuardLayer, MIB, Refusal};
    ///
    /// let layer = BodyGuardLayer::axum(4 * MIB)
    ///     .capture(|head| head.uri.path().to_owned())
    ///     .refusal_response(|refusal: &Refusal| {
    ///         let path = refusal.captured::<String>().map_or("", String::as_str);
    ///         (refusal.status(), format!("{path}: {}\n", refusal.message()))
    ///     });
    /// let app: Router = Router::new()
    ///     .route("/", post(|body: String| async { body }))
    ///     .layer(layer);
    /// # }
    /// ```
    ///
    /// [`Refusal::captured`]: crate::Refusal::captured
    #[must_use]
    pub fn capture<T, F>(mut self, capture: F) -> Self
    where
        T: Any + Send + Sync,
        F: Fn(&Parts) -> T + Send + Sync + 'static,
    {
        self.set().capture(capture);
        self
    }
}

impl<R> BodyGuardLayer<R> {
    /// Sets the response to refused requests. Default: [`PlainText`].
    ///
    /// Pass [`ProblemJson`](super::ProblemJson), [`HtmlPage`](super::HtmlPage),
    /// [`Negotiated`](super::Negotiated), a closure, or a custom
    /// [`RefusalResponse`](super::RefusalResponse).
    ///
    /// A closure returns a response with the service's own body type, and sets its status from
    /// [`Refusal::status`](crate::Refusal::status). It is called for every
    /// [kind](super::RefusalKind) of refusal, including a malformed `Content-Length`. It is not
    /// called for gRPC calls, because their clients can read only a gRPC status. It is cloned with
    /// the service, and for each body that may go over the limit.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Response;
    /// use http_body_util::Full;
    /// use tower_bodyguard::{BodyGuardLayer, MIB, Refusal, limit::ProblemJson};
    ///
    /// let layer = BodyGuardLayer::new(4 * MIB).refusal_response(ProblemJson);
    ///
    /// let layer = BodyGuardLayer::new(4 * MIB).refusal_response(|refusal: &Refusal| {
    ///     let mut response = Response::new(Full::<Bytes>::from(refusal.message()));
    ///     *response.status_mut() = refusal.status();
    ///     response
    /// });
    /// ```
    #[must_use]
    pub fn refusal_response<T>(self, response: T) -> BodyGuardLayer<T> {
        self.with_response(response)
    }
}

impl<K> BodyGuardLayer<PlainText, K> {
    fn from_settings(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            respond: PlainText,
            kind: PhantomData,
        }
    }

    /// Makes a layer that does not report the smaller limits of a service, because they were
    /// set on purpose.
    #[cfg(feature = "axum")]
    pub(crate) fn for_chosen_limits(limit: Limit) -> Self {
        Self::from_settings(Settings::new(limit).without_report())
    }
}

impl<R, K> BodyGuardLayer<R, K> {
    pub(crate) fn with_response<T>(self, respond: T) -> BodyGuardLayer<T, K> {
        BodyGuardLayer {
            settings: self.settings,
            respond,
            kind: PhantomData,
        }
    }

    fn set(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }

    #[cfg(feature = "axum")]
    pub(crate) fn is_by_route(&self) -> bool {
        self.settings.limit.is_by_route()
    }

    #[cfg(feature = "axum")]
    pub(crate) fn limit(&self) -> &Limit {
        &self.settings.limit
    }

    /// Wraps `inner`. `limit` replaces the layer's own limit, if there is one.
    #[cfg(feature = "axum")]
    pub(crate) fn guard<S, T>(
        &self,
        inner: S,
        limit: Option<Limit>,
        response: impl FnOnce(R) -> T,
    ) -> BodyGuard<S, T>
    where
        R: Clone,
    {
        let settings = match limit {
            None => Settings::clone(&self.settings),
            Some(limit) => self.settings.with_limit(limit),
        };
        BodyGuard::from_settings(inner, Arc::new(settings), response(self.respond.clone()))
    }
}

impl<R: Clone, K> Clone for BodyGuardLayer<R, K> {
    fn clone(&self) -> Self {
        Self {
            settings: Arc::clone(&self.settings),
            respond: self.respond.clone(),
            kind: PhantomData,
        }
    }
}

impl<S, R: Clone> Layer<S> for BodyGuardLayer<R> {
    type Service = BodyGuard<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        // A copy, so that services of two connections do not count references to the same settings.
        let settings = Arc::new(Settings::clone(&self.settings));
        BodyGuard::from_settings(inner, settings, self.respond.clone())
    }
}

impl<S> BodyGuard<S> {
    /// Wraps `inner`, and refuses bodies over `limit` as [`BodyGuardLayer::new`] does.
    pub fn new(inner: S, limit: impl Into<Limit>) -> Self {
        BodyGuardLayer::new(limit).layer(inner)
    }

    /// Returns the layer that [`BodyGuardLayer::new`] makes.
    pub fn layer(limit: impl Into<Limit>) -> BodyGuardLayer {
        BodyGuardLayer::new(limit)
    }
}
