//! Sends a response.

use std::{pin::pin, time::SystemTime};

use bytes::{Buf, Bytes};
use h3::{error::Code, quic::SendStream, server::RequestStream};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, UPGRADE},
};
use http_body::Body;
use http_body_util::BodyExt;

/// Headers of HTTP/1 connections. A response with one of them is malformed (RFC 9114 §4.2).
const OF_HTTP1: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The sending half of a request stream.
///
/// If it is dropped before the end of the response, the stream is reset. Otherwise quinn would end
/// it properly, and a part would look like the whole.
pub(crate) struct Sender<S: SendStream<Bytes>> {
    stream: RequestStream<S, Bytes>,
    is_over: bool,
}

impl<S: SendStream<Bytes>> Sender<S> {
    pub(crate) fn new(stream: RequestStream<S, Bytes>) -> Self {
        let is_over = false;
        Self { stream, is_over }
    }

    /// Sends a response, and waits until the client has it. If the response fails, so does the
    /// stream, and no caller can do anything about it.
    pub(crate) async fn send<B>(mut self, method: &Method, response: Response<B>)
    where
        B: Body<Data = Bytes>,
    {
        let (mut head, body) = response.into_parts();
        OF_HTTP1.iter().for_each(|name| {
            head.headers.remove(name);
        });
        let has_body = *method != Method::HEAD && may_have_body(head.status);
        if has_body {
            declare(&mut head.headers, &body);
        }
        let date = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()));
        if let Ok(date) = date {
            head.headers.entry(DATE).or_insert(date);
        }
        let mut body = pin!(body);
        let head = Response::from_parts(head, ());
        if self.stream.send_response(head).await.is_err() {
            return;
        }
        while let Some(frame) = match has_body {
            true => body.as_mut().frame().await,
            false => None,
        } {
            let Ok(frame) = frame else { return };
            let sent = match frame.into_data() {
                Ok(data) if data.has_remaining() => self.stream.send_data(data).await,
                Ok(_) => Ok(()),
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => self.stream.send_trailers(trailers).await,
                    Err(_) => Ok(()),
                },
            };
            if sent.is_err() {
                return;
            }
        }
        // An error means that the client has stopped or reset the stream, or has left.
        self.is_over = self.stream.finish().await.is_ok();
    }
}

/// Returns whether a response with this status may have a body (RFC 9110 §6.4.1).
fn may_have_body(status: StatusCode) -> bool {
    !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Declares the length of the body if it is known, as hyper does.
fn declare<B: Body>(headers: &mut HeaderMap, body: &B) {
    if let Some(length) = body.size_hint().exact() {
        headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
}

impl<S: SendStream<Bytes>> Drop for Sender<S> {
    fn drop(&mut self) {
        if !self.is_over {
            self.stream.stop_stream(Code::H3_INTERNAL_ERROR);
        }
    }
}
