//! Delivery: decides what happens to a request body that the service did not read to its end.
//!
//! The outermost service of a connection tracks each request body. When a response is ready and the
//! client still owes body bytes, delivery has two choices. It drains the body and keeps the
//! connection, or it sends the response with `Connection: close` and closes. An extractor that
//! drops the body on an error returns it to delivery.

pub(crate) mod config;
mod context;
mod disposition;
mod drain;
mod future;
mod handle;
mod handoff;
mod headers;
pub(crate) mod layer;
mod policy;
mod response_body;
pub(crate) mod service;
mod streams;
mod tracked_body;
mod unread_body;
mod window_hold;

pub(crate) use self::{
    config::{DeliveryConfig, Drain, StreamLinger},
    handle::DeliveryHandle,
    layer::DeliveryLayer,
    service::Delivery,
};
pub use self::{future::ResponseFuture, response_body::DeliveredBody, tracked_body::TrackedBody};
