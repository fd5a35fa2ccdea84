use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Buf, BufMut, Bytes};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body::Frame;

use super::messages::{At, Messages, TRAILERS};
use crate::refusal::{GrpcCall, GrpcFormat, Refusal, RefusalKind};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_RETRY_PUSHBACK_MS: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Returns a complete gRPC response without messages, which has only the status.
pub(in crate::limit) fn refuse(call: &GrpcCall, refusal: &Refusal) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, call.content_type().clone());
    headers.extend(trailers(refusal));
    if call.form() == GrpcFormat::Grpc {
        return response;
    }
    // Some gRPC-Web clients read the status from the headers, others from the body. A browser
    // hides headers from scripts unless they are exposed.
    let exposed = HeaderValue::from_static("grpc-status,grpc-message");
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    let body = in_body(call.form(), refusal);
    headers.insert(CONTENT_LENGTH, body.len().into());
    response.map(|_| body)
}

/// Returns the trailers as a frame of the body.
fn in_body(form: GrpcFormat, refusal: &Refusal) -> Bytes {
    let mut lines = format!(
        "{GRPC_STATUS}:{}\r\n{GRPC_MESSAGE}:{refusal}\r\n",
        status(refusal)
    );
    if let Some(pushback) = retry_pushback(refusal) {
        lines.push_str(&format!("{GRPC_RETRY_PUSHBACK_MS}:{pushback}\r\n"));
    }
    let mut frame = Vec::with_capacity(5 + lines.len());
    frame.put_u8(TRAILERS);
    frame.put_u32(lines.len() as u32);
    frame.put_slice(lines.as_bytes());
    match form {
        GrpcFormat::WebText => STANDARD.encode(frame).into(),
        GrpcFormat::Grpc | GrpcFormat::Web => frame.into(),
    }
}

/// A gRPC response that has begun.
#[derive(Debug)]
pub(in crate::limit) struct Begun {
    form: GrpcFormat,
    messages: Messages,
}

/// The way in which a response that has begun is to end.
pub(in crate::limit) enum End<D> {
    /// The frame with the refusal ends it.
    Refused(Frame<D>),
    /// The service has ended it with a status already. A second one would not count.
    Ended,
    /// It has to be aborted: a message is half sent.
    Unfinished,
}

impl Begun {
    /// Recognizes a gRPC response by its content type. Returns `None` if it is not one.
    pub(in crate::limit) fn of(headers: &HeaderMap) -> Option<Self> {
        let form = GrpcFormat::of(headers.get(CONTENT_TYPE)?)?;
        let mut messages = Messages::new(form == GrpcFormat::WebText);
        // A Trailers-Only response, whose status is in the head.
        if headers.contains_key(GRPC_STATUS) {
            messages.end();
        }
        Some(Self { form, messages })
    }

    /// Records a frame that is passed on to the client.
    pub(in crate::limit) fn sent<D: Buf>(&mut self, frame: &Frame<D>) {
        match (self.form, frame.data_ref()) {
            (GrpcFormat::Web | GrpcFormat::WebText, Some(data)) => self.messages.follow(data),
            (GrpcFormat::Grpc, None) => self.messages.end(),
            _ => {}
        }
    }

    pub(in crate::limit) fn end<D: From<Bytes>>(&self, refusal: &Refusal) -> End<D> {
        match (self.messages.at(), self.form) {
            (At::End, _) => End::Ended,
            (At::Within, _) => End::Unfinished,
            (At::Boundary, GrpcFormat::Grpc) => End::Refused(Frame::trailers(trailers(refusal))),
            (At::Boundary, form) => End::Refused(Frame::data(in_body(form, refusal).into())),
        }
    }
}

fn trailers(refusal: &Refusal) -> HeaderMap {
    // The text is our own words and numbers, none of which needs an escape.
    let message = HeaderValue::try_from(refusal.to_string());
    let message = message.expect("the text of a refusal is printable ASCII");
    let mut trailers = HeaderMap::with_capacity(3);
    trailers.insert(GRPC_STATUS, status(refusal).into());
    trailers.insert(GRPC_MESSAGE, message);
    if let Some(pushback) = retry_pushback(refusal) {
        trailers.insert(GRPC_RETRY_PUSHBACK_MS, pushback.into());
    }
    trailers
}

/// Returns the gRPC status code for the kind of refusal.
fn status(refusal: &Refusal) -> u16 {
    const INVALID_ARGUMENT: u16 = 3;
    const DEADLINE_EXCEEDED: u16 = 4;
    const RESOURCE_EXHAUSTED: u16 = 8;
    const UNAVAILABLE: u16 = 14;
    match refusal.kind() {
        RefusalKind::Declared { .. } | RefusalKind::Streamed { .. } => RESOURCE_EXHAUSTED,
        RefusalKind::TooSlow { .. }
        | RefusalKind::IdleTimeout { .. }
        | RefusalKind::DeadlineExceeded { .. } => DEADLINE_EXCEEDED,
        RefusalKind::OverBudget { .. } => UNAVAILABLE,
        RefusalKind::BadLength | RefusalKind::LengthRequired => INVALID_ARGUMENT,
    }
}

/// After how many milliseconds a client with a retry policy may repeat the call; negative for
/// never (gRPC proposal A6, "Pushback"). The same call would be refused again for its size.
fn retry_pushback(refusal: &Refusal) -> Option<i64> {
    match refusal.kind() {
        RefusalKind::Declared { .. }
        | RefusalKind::Streamed { .. }
        | RefusalKind::BadLength
        | RefusalKind::LengthRequired => Some(-1),
        RefusalKind::OverBudget { retry_after } => {
            Some(i64::try_from(retry_after.as_millis()).unwrap_or(i64::MAX))
        }
        RefusalKind::TooSlow { .. }
        | RefusalKind::IdleTimeout { .. }
        | RefusalKind::DeadlineExceeded { .. } => None,
    }
}
