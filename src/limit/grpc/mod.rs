//! gRPC: a refusal that its clients can read, told by the call's content type.
//!
//! They look for a status of gRPC's own in the trailers, and make UNKNOWN of a bare
//! 413. The forms are those of gRPC's documents PROTOCOL-HTTP2 and PROTOCOL-WEB.

mod messages;
mod response;

pub(super) use self::response::{Begun, End, refuse};
