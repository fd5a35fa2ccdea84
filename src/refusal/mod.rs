//! Refusals as plain data: the reason, its texts, and the format that the client can read.

mod format;
mod grpc;
mod reason;
mod request;
mod size;
mod text;

pub use self::{
    format::RefusalFormat,
    reason::{Refusal, RefusalKind},
};
pub(crate) use self::{
    grpc::{GrpcCall, GrpcFormat},
    request::{Captured, RequestContext},
};
