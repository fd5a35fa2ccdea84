//! The guard: a layer that bounds request bodies and answers for itself.
//!
//! The declared length is checked before the handler runs, the streamed length
//! while it reads. What the service then answers does not matter: once a body
//! has gone past its limit, the client gets the [`Refusal`].

mod accept;
mod content_length;
mod future;
mod grpc;
mod layer;
mod over_limit;
mod overrun;
mod pace;
mod policy;
mod refusal;
mod request_body;
mod respond;
mod response_body;
#[cfg(feature = "axum")]
mod routes;
mod service;
mod settings;
mod size;
mod under_way;
mod upload;

pub use self::{
    accept::Accepted,
    future::ResponseFuture,
    layer::BodyGuardLayer,
    over_limit::OverLimit,
    policy::Limit,
    refusal::{Kind, Refusal},
    request_body::{GuardedBody, TooSlow},
    respond::{Custom, HtmlPage, Negotiated, OnRefusal, PlainText, ProblemJson},
    response_body::ResponseBody,
    service::BodyGuard,
    under_way::BrokenOff,
};
