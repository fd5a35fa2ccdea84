//! The guard: a layer that bounds request bodies and answers for itself.
//!
//! The declared length is checked before the handler runs, the streamed length
//! while it reads. What the service then answers does not matter: once a body
//! has gone past its limit, the client gets the [`Refusal`].

mod content_length;
mod future;
mod layer;
mod overrun;
mod refusal;
mod request_body;
mod respond;
mod response_body;
mod service;
mod size;

pub use self::{
    future::ResponseFuture,
    layer::BodyGuardLayer,
    refusal::{Kind, Refusal},
    request_body::GuardedBody,
    respond::{Custom, OnRefusal, PlainText},
    response_body::{BrokenOff, ResponseBody},
    service::BodyGuard,
};
