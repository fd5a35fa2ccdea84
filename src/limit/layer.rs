use std::{any::Any, marker::PhantomData, sync::Arc, time::Duration};

use http::{StatusCode, request::Parts};
use tower_layer::Layer;

use super::{BodyBudget, BodyGuard, Limit, PlainText, settings::Settings};
use crate::{budget::Least, observe::Observer};

/// Limits the bodies of the requests to a service.
///
/// # What the client gets
///
/// - `Content-Length` over the limit: 413 at once, the service is never called.
/// - More bytes than the limit on the way: 413, whatever the service made of the
///   error that its body ended in. The service is left to finish, and its answer
///   is dropped. Where it had begun to answer already, the response is
///   [aborted](super::ResponseAborted).
/// - A `Content-Length` that is no number, or several that differ: 400.
/// - No length at all, where one is
///   [required](Self::require_content_length): 411.
/// - Bytes that come too slowly, where a [rate](Self::min_rate) is asked for: 408.
///
/// A body of exactly `limit` bytes passes.
///
/// # gRPC
///
/// A gRPC call, recognized by its content type, is refused in gRPC's own way, whatever
/// the layer was told to answer with: HTTP 200, `grpc-status` 8 (`RESOURCE_EXHAUSTED`),
/// or 3 (`INVALID_ARGUMENT`) for a bad or missing length, and a `grpc-message` with the
/// numbers; 4 (`DEADLINE_EXCEEDED`) where it came too slowly. For gRPC-Web and its text form they are in the body as well. A response
/// that has begun ends with the same trailers. `application/grpc` is a gRPC call over HTTP/2
/// and above only, and gRPC-Web over any version. A service that speaks no gRPC
/// [refuses all requests alike](Self::grpc_refusals).
///
/// **The limit counts all the bytes of a call**: of a client that streams, every message
/// together, with 5 bytes before each. A stream that lives for hours is better exempt, by
/// [`Limit::grpc_method`].
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
/// **Alone, the guard answers rightly, but hyper closes the connection while the
/// client still sends, and the answer is lost.** The hook mends that: see
/// [`Linger`](crate::Linger).
#[derive(Debug)]
pub struct BodyGuardLayer<R = PlainText, K = AnyService> {
    settings: Arc<Settings>,
    respond: R,
    kind: PhantomData<fn() -> K>,
}

/// A [`BodyGuardLayer`] for any service, as [`BodyGuardLayer::new`] makes it.
#[derive(Debug)]
pub enum AnyService {}

impl BodyGuardLayer {
    /// Refuses bodies over `limit`: a number of bytes, or a [`Limit`].
    ///
    /// This is for any service of tower's. In an app of axum's, write `BodyGuardLayer::axum`
    /// (feature `axum`), which lifts axum's own limit of 2 MB for extractors. With this one it
    /// stays in force, and the first body that it refuses is reported, once:
    /// [`Event::SmallerLimitWithin`](crate::Event::SmallerLimitWithin).
    pub fn new(limit: impl Into<Limit>) -> Self {
        Self::from_settings(Settings::new(limit.into()))
    }
}

impl<R, K> BodyGuardLayer<R, K> {
    /// Sets the status of a refusal for size, 413 if this is not called. A malformed
    /// `Content-Length` is 400 and a missing one 411 in any case.
    ///
    /// # Panics
    ///
    /// Panics if the status is not an error (4xx or 5xx).
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let guard = BodyGuardLayer::new(4 * MIB).status(StatusCode::BAD_REQUEST);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn status(mut self, status: StatusCode) -> Self {
        assert!(
            status.is_client_error() || status.is_server_error(),
            "{status} does not refuse a request: write a status of 400 to 599"
        );
        self.set().status = status;
        self
    }

    /// Answers 411 to a body of unknown length: chunked coding, and HTTP/2 without a
    /// `Content-Length`. A request without a body needs no length. Inside of a layer
    /// that decompresses, no length is known.
    ///
    /// ```
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let guard = BodyGuardLayer::new(4 * MIB).require_content_length();
    /// ```
    #[must_use]
    pub fn require_content_length(mut self) -> Self {
        self.set().require_length = true;
        self
    }

    /// Sets whether gRPC calls are refused with a gRPC status (true if this is not called).
    /// They are recognized by what the client writes into `Content-Type`, and their HTTP status
    /// is 200. With `false`, a service that speaks no gRPC refuses them like any other request.
    ///
    /// ```
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let guard = BodyGuardLayer::new(4 * MIB).grpc_refusals(false);
    /// ```
    #[must_use]
    pub fn grpc_refusals(mut self, grpc_refusals: bool) -> Self {
        self.set().grpc_refusals = grpc_refusals;
        self
    }

    /// Keeps the limit out of what the client gets to read. The numbers stay in the
    /// [`Refusal`](super::Refusal), for logs, and for answers of one's own.
    ///
    /// ```
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let guard = BodyGuardLayer::new(4 * MIB).hide_limit();
    /// ```
    #[must_use]
    pub fn hide_limit(mut self) -> Self {
        self.set().hide_limit = true;
        self
    }

    /// Lets a handler answer for itself where its body went past the limit while it
    /// streamed. Its answer goes out as it is; the [`Refusal`](super::Refusal) is in its extensions
    /// all the same.
    ///
    /// The handler meets an error in the body, which axum's extractors answer with
    /// 413; behind another limit, or layers that box the body, some do with 400 or 500. An
    /// [`BodyLimitStatus`](super::BodyLimitStatus) in the request's extensions has the numbers.
    /// **A handler that takes the error for the end of the body has taken half an
    /// upload for a whole one**, which is why this has to be asked for.
    ///
    /// A body that declares too much is refused by the guard in any case.
    #[must_use]
    pub fn keep_handler_response(mut self) -> Self {
        self.set().keep_handler_response = true;
        self
    }

    /// Responds with 408 to a body that comes in slower than `rate` bytes per second, once
    /// `grace` is over; delivered like any other early response. Kestrel's are 240 bytes per
    /// second and 5 s; without this call there is no such rate.
    ///
    /// The client has a credit of time. It starts with `grace`, grows by 1 s for each `rate`
    /// bytes, and shrinks while the handler waits for the client: a slow handler, or one that
    /// does not read, is not the client's fault. The credit is at most `grace`, or 1 s if that
    /// is more: a fast beginning does not pay for silence later. A body with
    /// [no limit](Limit::unlimited) has no rate to keep. A rate of `None` or 0 sets none. The rate
    /// costs three allocations for each body, and another for one that is waited for.
    ///
    /// Over HTTP/2 the streams of a connection share one window, and a handler that does not
    /// read its body can take it from all others. That time is not the client's either; only
    /// `axum::serve` of this crate and [`Linger::wrap`](crate::Linger::wrap) know it. **If
    /// the connection is not combined in this way, the rate does not apply over HTTP/2**, nor
    /// does it over HTTP/3, or if a layer outside reads the body in a task of its own.
    ///
    /// # Panics
    ///
    /// The body panics when it waits for the client outside of a tokio runtime with timers.
    ///
    /// tower-http's `RequestBodyTimeoutLayer` bounds the silence between two frames, and a
    /// drip gets past it; its `RequestBodyDeadlineLayer` bounds the whole, for a large body
    /// as for a small one. Their errors reach the handler, which answers for them: 400, with
    /// axum's extractors. That is delivered as well, and they go together with this.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bodyguard::{BodyGuardLayer, MIB};
    ///
    /// let guard = BodyGuardLayer::new(4 * MIB).min_rate(240, Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn min_rate(mut self, rate: impl Into<Option<u64>>, grace: Duration) -> Self {
        let rate = rate.into().filter(|rate| *rate > 0);
        self.set().least = rate.map(|rate| Least { rate, grace });
        self
    }

    /// Reserves room for each body in a budget, which other layers and servers may share. A
    /// request that finds none is refused with 503, see [`BodyBudget`].
    ///
    /// The budget costs one allocation and a few atomic operations for each request with a body.
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

    /// Sets the observer, which is notified of each refusal: when the head declares too much,
    /// or when the body goes over the limit. It does not matter whether the client gets to see
    /// the refusal, or a response that had begun, or that of an outer timeout.
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.set().observer = observer;
        self
    }

    /// Takes something from the heads of requests, for [`Refusal::captured`]: the head
    /// itself is with the handler by the time that a body proves too long.
    ///
    /// It costs what `capture` costs, and one allocation, for each request that is
    /// refused or may yet be: one with a body of unknown length, or any body if there
    /// is a [rate](Self::min_rate).
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use axum::{Router, routing::post};
    /// use tower_bodyguard::{BodyGuardLayer, MIB, Refusal};
    ///
    /// let guard = BodyGuardLayer::axum(4 * MIB)
    ///     .capture(|head| head.uri.path().to_owned())
    ///     .refusal_response(|refusal: &Refusal| {
    ///         let path = refusal.captured::<String>().map_or("", String::as_str);
    ///         (refusal.status(), format!("{path}: {refusal}\n"))
    ///     });
    /// let app: Router = Router::new()
    ///     .route("/", post(|body: String| async { body }))
    ///     .layer(guard);
    /// # }
    /// ```
    ///
    /// [`Refusal::captured`]: super::Refusal::captured
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
    /// Sets what makes the responses to refused requests: [`PlainText`] if this is not called,
    /// or [`ProblemJson`](super::ProblemJson), [`HtmlPage`](super::HtmlPage),
    /// [`Negotiated`](super::Negotiated), a closure, or a
    /// [`RefusalResponse`](super::RefusalResponse) of one's own.
    ///
    /// A closure returns a response in the service's own body type, and sets its status, from
    /// [`Refusal::status`](super::Refusal::status). It is called for every
    /// [kind](super::RefusalKind) of refusal, a malformed `Content-Length` among them, but not
    /// for gRPC calls, whose clients read nothing else. It is cloned with the service, and for
    /// each body that may go over the limit.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Response;
    /// use http_body_util::Full;
    /// use tower_bodyguard::{BodyGuardLayer, MIB, Refusal, limit::ProblemJson};
    ///
    /// let guard = BodyGuardLayer::new(4 * MIB).refusal_response(ProblemJson);
    ///
    /// let guard = BodyGuardLayer::new(4 * MIB).refusal_response(|refusal: &Refusal| {
    ///     let mut response = Response::new(Full::<Bytes>::from(format!("Sorry: {refusal}\n")));
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

    /// A layer for services whose smaller limits are chosen.
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

    /// The guard, with a limit in place of the layer's if one is given.
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
            None => Arc::clone(&self.settings),
            Some(limit) => Arc::new(self.settings.with_limit(limit)),
        };
        BodyGuard::from_settings(inner, settings, response(self.respond.clone()))
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
        BodyGuard::from_settings(inner, Arc::clone(&self.settings), self.respond.clone())
    }
}

impl<S> BodyGuard<S> {
    /// Refuses bodies over `limit` before `inner`, as [`BodyGuardLayer::new`] does.
    pub fn new(inner: S, limit: impl Into<Limit>) -> Self {
        BodyGuardLayer::new(limit).layer(inner)
    }

    /// Returns [`BodyGuardLayer::new`].
    pub fn layer(limit: impl Into<Limit>) -> BodyGuardLayer {
        BodyGuardLayer::new(limit)
    }
}
