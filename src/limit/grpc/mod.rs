//! Refusals in the form that gRPC clients can read, chosen by the content type of the call.
//!
//! A gRPC client looks for a gRPC status in the trailers, and reports a bare 413 as UNKNOWN.
//! The gRPC documents PROTOCOL-HTTP2 and PROTOCOL-WEB define the forms.

mod messages;
mod response;

pub(super) use self::response::{Begun, End, refuse};
