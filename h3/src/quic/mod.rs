//! The streams of quinn for h3, in place of `h3_quinn`.
//!
//! Pass [`Connection`] to `h3::server::builder()` where you would pass `h3_quinn::Connection`.
//! [`serve`](crate::serve()) does that. They differ in what a server needs for early responses:
//!
//! | | `h3_quinn` 0.0.10 | here |
//! | --- | --- | --- |
//! | `stop_sending` after a poll that was pending | panics ([h3#331], [h3#351], [h3#361]) | works |
//! | A request stream is dropped unread | `STOP_SENDING` with code 0, which is no code of HTTP/3 | `H3_NO_ERROR` |
//! | A response that was split off its request is dropped before its end | It ends properly, so a part looks like the whole | It is reset |
//! | `finish` completes | when the end of the response is queued | when the client has the response |
//! | The client ends its stream inside a frame | h3 0.0.8 panics, or takes a part for the whole | an error |
//! | The client sends an empty `DATA` frame | h3 0.0.8 takes it for the end of the body | no end |
//! | The client sends an endless frame that is not `DATA` | h3 0.0.8 buffers it | an error at 256 KiB |
//! | The client sends many short frames | h3 0.0.8 buffers them, past all limits | h3 gets one at a time |
//!
//! [h3#331]: https://github.com/hyperium/h3/issues/331
//! [h3#351]: https://github.com/hyperium/h3/issues/351
//! [h3#361]: https://github.com/hyperium/h3/issues/361

mod connection;
mod error;
mod frames;
mod recv;
mod send;

pub(crate) use self::connection::Rejecting;
pub use self::{
    connection::{BidiStream, Connection, Opener},
    recv::RecvStream,
    send::SendStream,
};
