//! The guard: a layer that bounds request bodies and answers for itself.
//!
//! The declared length is checked before the handler runs, the streamed length
//! while it reads. What the service then answers does not matter: once a body
//! has gone past its limit, the client gets the [`Refusal`].

mod body_budget;
mod body_limit_status;
mod content_length;
mod future;
mod grpc;
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
mod under_way;
mod upload;

pub use self::{
    body_budget::{BodyBudget, BodyBudgetConfig},
    body_limit_status::BodyLimitStatus,
    future::ResponseFuture,
    layer::{AnyService, BodyGuardLayer},
    policy::Limit,
    refusal_response::{HtmlPage, Negotiated, PlainText, ProblemJson, RefusalResponse},
    request_body::{BodyTooSlow, GuardedBody},
    response_body::ResponseBody,
    service::BodyGuard,
    under_way::ResponseAborted,
};
pub use crate::refusal::{Refusal, RefusalFormat, RefusalKind};
