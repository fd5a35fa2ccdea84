//! Why a request is refused: data only, in the words and forms that a client can read.

mod accept;
mod grpc;
mod reason;
mod request;
mod size;

pub use self::{
    accept::Accepted,
    reason::{Kind, Refusal},
};
pub(crate) use self::{
    grpc::{Call, Form},
    request::{Asked, Captured},
    size::write_limit,
};
