//! The HTTP/1 clients.

mod exchange;
pub(crate) mod plan;
mod reader;
mod response;
mod writer;

pub(crate) use self::{exchange::run, writer::get};
