//! The facts about one upload, as the client saw them. Data only.

use schemars::JsonSchema;
use serde::Serialize;

/// How much of the final response the client read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Received {
    /// No byte of a final response.
    #[default]
    Nothing,
    /// A part of the response: its framing says that bytes are missing.
    Part,
    /// The whole response.
    Whole,
}

/// The fate of a second request on the same connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Second {
    /// The client sent no second request.
    #[default]
    NotSent,
    /// The server responded to it.
    Served,
    /// The server closed or reset the connection instead.
    Unserved,
    /// No response came in 2 s, and the connection stayed open.
    NoResponse,
}

/// The facts about one upload.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Observation {
    /// The status of the final response, if its head arrived.
    pub status: Option<u16>,
    /// How much of the final response the client read.
    pub received: Received,
    /// Whether the response says that the connection ends: `Connection: close`, or HTTP/1.0
    /// without `keep-alive`.
    pub says_close: bool,
    /// Whether a `100 Continue` arrived.
    pub interim_100: bool,
    /// The error of the first write that failed.
    pub failed_write: Option<String>,
    /// How the client first noticed a reset of the connection. Over HTTP/3, how the server closed
    /// it.
    pub reset: Option<String>,
    /// Whether a write had failed, or a reset had arrived, before the client had read the whole
    /// response. Linux keeps the unread bytes, other systems discard them. Over HTTP/2 and HTTP/3,
    /// whether the server had stopped the upload in a way that is a failure for this client, or had
    /// closed the connection.
    pub reset_before_whole: bool,
    /// The error code with which the server reset the stream: over HTTP/2 before the upload was
    /// sent, over HTTP/3 before the response ended.
    pub stream_reset: Option<String>,
    /// The HTTP/3 error code with which the server asked the client to stop, before the upload was
    /// sent.
    pub stop_sending: Option<String>,
    /// Whether the client gave up, because no byte moved for the timeout.
    pub stalled: bool,
    /// Whether the response came before the whole upload was sent. `null` if this client cannot
    /// tell.
    pub early: Option<bool>,
    /// Milliseconds from the start of the request to the first byte of the final response.
    pub first_byte_ms: Option<f64>,
    /// Bytes of the request body that the client's kernel accepted, or QUIC.
    pub body_sent: u64,
    /// Bytes of the request body that were sent although the upload was refused early.
    pub sent_in_vain: u64,
    /// The fate of a second request on the same connection.
    pub second: Second,
    /// Responses beyond those to the requests that the client sent.
    pub unsolicited_responses: u32,
    /// Why the client could not connect.
    pub no_connection: Option<String>,
}

impl Observation {
    /// Returns whether the upload was refused before it was sent, as far as the client can tell.
    #[must_use]
    pub fn is_early(&self) -> bool {
        self.early != Some(false)
    }

    /// Returns whether the final status is an error.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.status.is_some_and(|status| status >= 400)
    }
}
