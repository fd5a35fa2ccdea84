//! The limit layer, which limits request bodies and responds to those over the limit itself.
//!
//! The layer checks the declared length before the handler runs, and the streamed length while
//! the handler reads. Once a body is over its limit, the [`Refusal`](crate::Refusal) replaces the response of
//! the service. A response that has begun is [aborted](ResponseAborted) instead, and
//! [`keep_handler_response`](crate::BodyGuardLayer::keep_handler_response) lets the handler respond.

pub(crate) mod body_budget;
mod body_limit_status;
mod content_length;
mod future;
mod grpc;
mod headers;
mod in_progress;
pub(crate) mod layer;
mod pace_meter;
pub(crate) mod policy;
mod refusal_response;
pub(crate) mod request_body;
mod response_body;
#[cfg(feature = "axum")]
mod routes;
pub(crate) mod service;
mod settings;
mod upload;

#[cfg(feature = "axum")]
pub(crate) use self::service::promised;
pub(crate) use self::{
    body_budget::BodyBudget, policy::Limit, request_body::GuardedBody, service::BodyGuard,
};
pub use self::{
    body_limit_status::BodyLimitStatus,
    future::ResponseFuture,
    in_progress::ResponseAborted,
    layer::AnyService,
    refusal_response::{HtmlPage, Negotiated, PlainText, ProblemJson, RefusalResponse},
    request_body::BodyTooSlow,
    response_body::ResponseBody,
};
pub use crate::refusal::{RefusalFormat, RefusalKind};
