//! The guard: a layer that bounds request bodies and answers for itself.
//!
//! The declared length is checked before the handler runs, the streamed length
//! while it reads. What the service then answers does not matter: once a body
//! has gone past its limit, the client gets the [`Refusal`].

mod content_length;
mod future;
mod grpc;
mod layer;
mod over_limit;
mod policy;
mod rate_meter;
mod request_body;
mod respond;
mod response_body;
#[cfg(feature = "axum")]
mod routes;
mod service;
mod settings;
mod under_way;
mod upload;

pub use self::{
    future::ResponseFuture,
    layer::BodyGuardLayer,
    over_limit::OverLimit,
    policy::Limit,
    request_body::{GuardedBody, TooSlow},
    respond::{Custom, HtmlPage, Negotiated, OnRefusal, PlainText, ProblemJson},
    response_body::ResponseBody,
    service::BodyGuard,
    under_way::BrokenOff,
};
pub use crate::refusal::{Accepted, Kind, Refusal};
