//! Refusals as plain data: the reason, its text, and the format that the client can read.

mod format;
mod grpc;
mod reason;
mod request;
mod size;

pub use self::{
    format::RefusalFormat,
    reason::{Refusal, RefusalKind},
};
pub(crate) use self::{
    grpc::{GrpcCall, GrpcFormat},
    request::{Captured, RequestContext},
};
