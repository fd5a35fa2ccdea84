//! Delivery: what becomes of a request body that nobody read to its end.
//!
//! The outermost service of a connection follows each request body. When an answer
//! comes while the client still owes bytes, it decides: read on and keep the
//! connection, or say `Connection: close`, truthfully. A body that an extractor
//! drops on an error comes back to it.

mod config;
mod disposition;
mod drain;
mod future;
mod handle;
mod handoff;
mod headers;
mod layer;
mod policy;
mod response_body;
mod service;
mod streams;
mod tracked_body;
mod unread_body;
mod window_hold;

pub(crate) use self::handle::DeliveryHandle;
pub use self::{
    config::{DeliveryConfig, Drain, StreamLinger},
    future::ResponseFuture,
    layer::DeliveryLayer,
    response_body::DeliveredBody,
    service::Delivery,
    tracked_body::TrackedBody,
};
