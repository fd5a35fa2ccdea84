//! The limit layer, which limits request bodies and responds to those over the limit itself.
//!
//! The layer checks the declared length before the handler runs, and the streamed length while
//! the handler reads. Once a body is over its limit, the [`Refusal`] replaces the response of
//! the service. A response that has begun is [aborted](ResponseAborted) instead, and
//! [`keep_handler_response`](BodyGuardLayer::keep_handler_response) lets the handler respond.

mod body_budget;
mod body_limit_status;
mod content_length;
mod future;
mod grpc;
mod in_progress;
mod layer;
mod policy;
mod rate_meter;
mod refusal_response;
mod request_body;
mod response_body;
#[cfg(feature = "axum")]
mod routes;
mod service;
mod settings;
mod upload;

pub use self::{
    body_budget::{BodyBudget, BodyBudgetConfig},
    body_limit_status::BodyLimitStatus,
    future::ResponseFuture,
    in_progress::ResponseAborted,
    layer::{AnyService, BodyGuardLayer},
    policy::Limit,
    refusal_response::{HtmlPage, Negotiated, PlainText, ProblemJson, RefusalResponse},
    request_body::{BodyTooSlow, GuardedBody},
    response_body::ResponseBody,
    service::BodyGuard,
};
pub use crate::refusal::{Refusal, RefusalFormat, RefusalKind};
