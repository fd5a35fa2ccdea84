//! Delivery: what becomes of a request body that nobody read to its end.
//!
//! The outermost service of a connection follows each request body. When an answer
//! comes while the client still owes bytes, it decides: read on and keep the
//! connection, or say `Connection: close`, truthfully. A body that an extractor
//! drops on an error comes back to it.

mod drain;
mod exchange;
mod future;
mod layer;
mod plan;
mod response_body;
mod service;
mod shared;
mod streams;
mod unread;
mod verdict;

pub(crate) use self::shared::Shared;
pub use self::{
    drain::Drain, exchange::TrackedBody, future::ResponseFuture, layer::DeliveryLayer,
    response_body::DeliveredBody, service::Delivery, streams::StreamLinger,
};
