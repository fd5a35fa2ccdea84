use std::{any::Any, fmt, sync::Arc};

use http::{StatusCode, request::Parts};

use super::{
    Kind, Limit, Refusal,
    content_length::content_length,
    refusal::{Asked, Captured},
};
use crate::{
    bounds::Least,
    event::{Event, Observer},
};

/// What no body comes to.
pub(super) const NO_LIMIT: u64 = u64::MAX;

/// What a layer was told, but for how it answers.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) limit: Limit,
    pub(super) status: StatusCode,
    pub(super) require_length: bool,
    pub(super) hide_limit: bool,
    pub(super) keep_handler_response: bool,
    pub(super) least: Option<Least>,
    pub(super) observer: Observer,
    /// axum's own default limit is lifted for what this guard lets through.
    #[cfg(feature = "axum")]
    pub(super) lift_axum: bool,
    capture: Option<Arc<Capture>>,
}

type Capture = dyn Fn(&Parts) -> Captured + Send + Sync;

impl Settings {
    pub(super) fn new(limit: Limit) -> Self {
        Self {
            limit,
            status: StatusCode::PAYLOAD_TOO_LARGE,
            require_length: false,
            hide_limit: false,
            keep_handler_response: false,
            least: None,
            observer: Observer::default(),
            #[cfg(feature = "axum")]
            lift_axum: false,
            capture: None,
        }
    }

    pub(super) fn capture<T: Any + Send + Sync>(
        &mut self,
        capture: impl Fn(&Parts) -> T + Send + Sync + 'static,
    ) {
        self.capture = Some(Arc::new(move |head| Captured(Arc::new(capture(head)))));
    }

    #[cfg(feature = "axum")]
    pub(super) fn lift_axum<B>(&self, mut request: http::Request<B>) -> http::Request<B> {
        if self.lift_axum {
            axum::extract::DefaultBodyLimit::disable().apply(&mut request);
        }
        request
    }

    /// What the answer must know of the request.
    pub(super) fn asked(&self, head: &Parts) -> Asked {
        let captured = self.capture.as_ref().map(|capture| capture(head));
        Asked::of(&head.method, &head.headers, captured)
    }

    /// The head's decision: the limit that the body has to keep (`None` for no
    /// limit), or a refusal. `bounded` where the transport knows the length.
    pub(super) fn decide(
        &self,
        head: &Parts,
        bodiless: bool,
        bounded: bool,
    ) -> Result<Option<u64>, Refusal> {
        let limit = self.limit.for_request(head);
        let (kind, status) = match content_length(&head.headers) {
            Ok(Some(length)) if limit.is_some_and(|limit| length > limit) => {
                (Kind::Declared { length }, self.status)
            }
            Ok(None) if self.require_length && !bodiless && !bounded => {
                (Kind::LengthRequired, StatusCode::LENGTH_REQUIRED)
            }
            Ok(_) => return Ok(limit),
            Err(_) => (Kind::BadLength, StatusCode::BAD_REQUEST),
        };
        let refusal = self.refusal(kind, status, limit, self.asked(head));
        self.observe(&refusal);
        Err(refusal)
    }

    /// The refusal of a body that went past its limit, or came too slowly.
    pub(super) fn streamed(&self, kind: Kind, limit: u64, request: Asked) -> Refusal {
        let status = match kind {
            Kind::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            _ => self.status,
        };
        let limit = Some(limit).filter(|limit| *limit != NO_LIMIT);
        self.refusal(kind, status, limit, request)
    }

    /// Tells who wants to know.
    pub(super) fn observe(&self, refusal: &Refusal) {
        self.observer.observe(&Event::Refused(refusal));
    }

    fn refusal(
        &self,
        kind: Kind,
        status: StatusCode,
        limit: Option<u64>,
        request: Asked,
    ) -> Refusal {
        Refusal::new(kind, status, limit, request).secret(self.hide_limit)
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
            .field("min_rate", &self.least)
            .finish_non_exhaustive()
    }
}
