use std::{
    any::Any,
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Version, request::Parts};
use http_body::SizeHint;
use http_body_util::LengthLimitError;

use super::{
    BodyBudget, Limit,
    body_budget::{Client, Reservation},
    content_length::{Malformed, content_length},
    headers::upload_limit,
    pace_meter::Pace,
    policy::Found,
};
use crate::{
    observe::{Event, Observer},
    refusal::{Captured, GrpcCall, Refusal, RefusalKind, RequestContext},
    warn::warn,
};

/// The limit that stands for no limit: no body is that long.
pub(super) const NO_LIMIT: u64 = u64::MAX;

/// The settings of a layer, except for the refusal response.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) limit: Limit,
    pub(super) status: StatusCode,
    pub(super) require_length: bool,
    pub(super) hide_limit: bool,
    pub(super) keep_handler_response: bool,
    pub(super) grpc_refusals: bool,
    /// Whether refusals have the header `Upload-Limit`, and responses to OPTIONS, too.
    pub(super) announces_limit: bool,
    pub(super) announces_on_options: bool,
    pub(super) retry_after: Option<Duration>,
    pub(super) pace: Pace,
    pub(super) budget: Option<BodyBudget>,
    pub(super) observer: Observer,
    capture: Option<Arc<Capture>>,
    /// Whether a smaller limit inside is reported as a mistake. Under `BodyGuardLayer::axum` such
    /// a limit is a choice.
    reports_smaller_limits: bool,
    /// Whether a smaller limit was reported. All services of one layer share this.
    has_reported_smaller: Arc<AtomicBool>,
    #[cfg(feature = "axum")]
    notice: Arc<super::policy::Notice>,
}

/// The limits that apply to the body of a request.
#[derive(Clone, Copy)]
pub(super) struct Decision<'a> {
    /// The maximum number of bytes by the layer's limit, or `None` for no limit.
    pub(super) max: Option<u64>,
    /// The same, or the longest body that fits into the budget.
    pub(super) limit: Option<u64>,
    /// The client that needs room in the budget, if there is one.
    pub(super) client: Option<Client<'a>>,
}

/// The default limit of the axum extractors. If a body is not longer, any limit that refuses it
/// was set on purpose.
const AXUM_DEFAULT_LIMIT: u64 = 2 * crate::MIB;

type Capture = dyn Fn(&Parts) -> Captured + Send + Sync;

impl Settings {
    pub(super) fn new(limit: Limit) -> Self {
        Self {
            limit,
            status: StatusCode::PAYLOAD_TOO_LARGE,
            require_length: false,
            hide_limit: false,
            keep_handler_response: false,
            grpc_refusals: true,
            announces_limit: false,
            announces_on_options: false,
            retry_after: None,
            pace: Pace::default(),
            budget: None,
            observer: Observer::default(),
            capture: None,
            reports_smaller_limits: true,
            has_reported_smaller: Arc::default(),
            #[cfg(feature = "axum")]
            notice: Arc::default(),
        }
    }

    /// Turns off the report of smaller limits. The service sets them on purpose.
    #[cfg(feature = "axum")]
    pub(super) fn without_report(self) -> Self {
        Self {
            reports_smaller_limits: false,
            ..self
        }
    }

    #[cfg(feature = "axum")]
    pub(super) fn with_limit(&self, limit: Limit) -> Self {
        Self {
            limit,
            ..self.clone()
        }
    }

    pub(super) fn capture<T: Any + Send + Sync>(
        &mut self,
        capture: impl Fn(&Parts) -> T + Send + Sync + 'static,
    ) {
        self.capture = Some(Arc::new(move |head| Captured::new(capture(head))));
    }

    /// Returns the parts of the request that a refusal depends on.
    pub(super) fn request_context(&self, head: &Parts) -> RequestContext {
        let captured = self.capture.as_ref().map(|capture| capture(head));
        let call = self.grpc_refusals.then(|| GrpcCall::of(head)).flatten();
        RequestContext::of(head, call, captured)
    }

    /// Returns the limit of a request that passes by its lengths alone. `None` means that the
    /// whole head decides.
    #[inline]
    pub(super) fn passes(&self, headers: &HeaderMap, promised: &SizeHint) -> Option<u64> {
        let most = self.passes_by_body(promised)?;
        let declared = content_length(headers).ok()?;
        declared.is_none_or(|length| length <= most).then_some(most)
    }

    /// Returns the limit if the size hint alone lets the request pass. The caller checks
    /// `Content-Length`, or knows that hyper has.
    #[inline]
    pub(super) fn passes_by_body(&self, promised: &SizeHint) -> Option<u64> {
        let limit = self.limit.fixed()?;
        if self.keep_handler_response || self.announces_on_options {
            return None;
        }
        let has_body = promised.exact() != Some(0);
        if has_body {
            let lacks_length = self.require_length && promised.exact().is_none();
            if lacks_length || self.budget.is_some() || self.counts(limit, promised) {
                return None;
            }
        }
        Some(limit.unwrap_or(NO_LIMIT))
    }

    /// Returns the header that announces the limit in the response to an OPTIONS request.
    pub(super) fn announcement(&self, method: &Method, limit: Option<u64>) -> Option<HeaderValue> {
        let announces = self.announces_on_options && !self.hide_limit;
        match announces && *method == Method::OPTIONS {
            true => Some(upload_limit(limit)),
            false => None,
        }
    }

    /// Checks the head. Returns the limits for the body, or a refusal.
    pub(super) fn decide(
        &self,
        head: &Parts,
        promised: &SizeHint,
    ) -> Result<Decision<'_>, Box<Refusal>> {
        let mut found = Found::default();
        let applied = self.limit.for_request(head, &mut found);
        let needs_room = applied.needs_room && promised.exact() != Some(0);
        let budget = self.budget.as_ref().filter(|_| needs_room);
        let client = budget.map(|budget| budget.client(head));
        let limit = match client {
            None => applied.max,
            Some(client) => Some(client.longest().min(applied.max.unwrap_or(NO_LIMIT))),
        };
        #[cfg(feature = "axum")]
        if promised.exact() != Some(0) && self.notice.is_due(found) {
            self.warn_of_unknown_route(head, limit);
        }
        let declared = content_length(&head.headers);
        let passes = match declared {
            Ok(Some(length)) => limit.is_none_or(|limit| length <= limit),
            Ok(None) => !self.require_length || promised.exact().is_some(),
            Err(_) => false,
        };
        match passes {
            true => Ok(Decision {
                max: applied.max,
                limit,
                client,
            }),
            false => Err(self.refuse(head, declared, limit)),
        }
    }

    /// Reserves room for the body in a budget.
    ///
    /// # Errors
    ///
    /// Returns a refusal if there is no room, and the body may not wait for it.
    #[inline(never)]
    pub(super) fn reserve(
        &self,
        client: Client<'_>,
        head: &Parts,
        promised: &SizeHint,
        limit: Option<u64>,
    ) -> Result<Reservation, Box<Refusal>> {
        // A waiting body would occupy the window of an HTTP/2 connection.
        let may_wait = head.version <= Version::HTTP_11 && client.budget().wait_timeout().is_some();
        let most = limit.unwrap_or(NO_LIMIT);
        Reservation::new(client, promised.exact(), most, may_wait).map_err(|_| {
            let retry_after = client.budget().retry_after();
            let kind = RefusalKind::OverBudget { retry_after };
            let refusal = self.refusal(kind, limit, self.request_context(head));
            self.observe(&refusal);
            Box::new(refusal)
        })
    }

    /// Reports that a limit by route met a request without a route. Either the layer is in the
    /// wrong place, or a fallback reads bodies.
    #[cfg(feature = "axum")]
    #[cold]
    fn warn_of_unknown_route(&self, head: &Parts, limit: Option<u64>) {
        let path = head.uri.path();
        self.observer.observe(&Event::RouteUnknown { path, limit });
        warn(format_args!(
            "{path}: a limit by route met a request without a route. The smallest of its limits \
             applies. Pass such a limit to `Router::layer` of the router that has the route"
        ));
    }

    #[cold]
    fn refuse(
        &self,
        head: &Parts,
        declared: Result<Option<u64>, Malformed>,
        limit: Option<u64>,
    ) -> Box<Refusal> {
        let kind = match declared {
            Ok(Some(length)) => RefusalKind::Declared { length },
            Ok(None) => RefusalKind::LengthRequired,
            Err(Malformed) => RefusalKind::BadLength,
        };
        let refusal = self.refusal(kind, limit, self.request_context(head));
        self.observe(&refusal);
        Box::new(refusal)
    }

    /// Returns whether the body has to be counted: it may go over the limit, be too slow, or be
    /// refused by a smaller limit. A body with a size hint within the limit cannot go over it,
    /// because hyper enforces the declared length.
    #[inline]
    pub(super) fn counts(&self, limit: Option<u64>, promised: &SizeHint) -> bool {
        self.may_be_refused(limit, promised) || self.may_meet_smaller(promised)
    }

    /// Returns whether the body may go over its limit, or be too slow.
    #[inline]
    pub(super) fn may_be_refused(&self, limit: Option<u64>, promised: &SizeHint) -> bool {
        let within = |limit| promised.upper().is_some_and(|most| most <= limit);
        let paced = self.pace.is_limited() && promised.exact() != Some(0);
        limit.is_some_and(|limit| paced || !within(limit))
    }

    /// Returns whether the size hint suggests a smaller limit of another layer, and this layer has
    /// not reported one yet. If the length is exact and above 2 MiB, axum's default limit inside
    /// may refuse the body. If there is only an upper bound, a layer outside limits the body.
    #[inline]
    pub(super) fn may_meet_smaller(&self, promised: &SizeHint) -> bool {
        let may = match promised.exact() {
            Some(length) => length > AXUM_DEFAULT_LIMIT && self.reports_smaller_limits,
            None => promised.upper().is_some(),
        };
        may && !self.has_reported_smaller.load(Ordering::Relaxed)
    }

    /// Checks the response to a body within `limit`: a 413 means that a limit inside is smaller.
    #[inline]
    pub(super) fn meet_response(&self, status: StatusCode, extensions: &Extensions, limit: u64) {
        if status == StatusCode::PAYLOAD_TOO_LARGE
            && self.reports_smaller_limits
            // Another limit layer inside reports its own refusals.
            && extensions.get::<Refusal>().is_none()
        {
            self.report_smaller_limit(limit);
        }
    }

    /// Checks the error of a body within `limit`: a length error means that a limit outside is
    /// smaller.
    #[cold]
    pub(super) fn meet_error(&self, error: &(dyn Error + 'static), limit: u64) {
        let mut causes = std::iter::successors(Some(error), |cause| (*cause).source());
        if causes.any(|cause| cause.is::<LengthLimitError>()) {
            self.report_smaller_limit(limit);
        }
    }

    #[cold]
    fn report_smaller_limit(&self, limit: u64) {
        if self.has_reported_smaller.swap(true, Ordering::Relaxed) {
            return;
        }
        let limit = (limit != NO_LIMIT).then_some(limit);
        self.observer.observe(&Event::SmallerLimit { limit });
        let limit = limit.map_or_else(|| "none".to_owned(), |limit| format!("{limit} bytes"));
        warn(format_args!(
            "another limit refused a body that this one ({limit}) admits. Inside an axum app, that \
             is `DefaultBodyLimit` (2 MB by default), which `BodyGuardLayer::axum` lifts. Outside, \
             it is another layer that limits bodies, which is not needed then"
        ));
    }

    /// Notifies the observer of a refusal.
    pub(super) fn observe(&self, refusal: &Refusal) {
        self.observer.observe(&Event::Refused(refusal));
    }

    pub(super) fn refusal(
        &self,
        kind: RefusalKind,
        limit: Option<u64>,
        request: RequestContext,
    ) -> Refusal {
        let status = kind.status(self.status);
        Refusal::of(kind, status, limit, request)
            .secret(self.hide_limit)
            .announcing_limit(self.announces_limit)
            .retry_slow_after(self.retry_after)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("limit", &self.limit)
            .field("status", &self.status)
            .field("require_length", &self.require_length)
            .field("hide_limit", &self.hide_limit)
            .field("keep_handler_response", &self.keep_handler_response)
            .field("grpc_refusals", &self.grpc_refusals)
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}
