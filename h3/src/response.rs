//! Sends a response.

use std::{
    pin::pin,
    time::{Duration, SystemTime},
};

use bytes::{Buf, Bytes};
use h3::{quic::SendStream, server::RequestStream};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, UPGRADE},
};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout;

/// Headers of HTTP/1 connections. A response with one of them is malformed (RFC 9114 §4.2).
const OF_HTTP1: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// How long the client may take to acknowledge the rest of a response that is queued as a whole.
/// It is as long as a blocked response over HTTP/1 is waited for (`LingerConfig::stall_timeout`).
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(300);

/// The response was not sent, or the client does not want it.
pub(crate) struct Failed;

/// Sends a response, and waits until the client has it.
///
/// The response body is dropped before the end of the response is queued. From then on, the limits
/// on the unread request body count.
pub(crate) async fn send<S, B>(
    stream: &mut RequestStream<S, Bytes>,
    method: &Method,
    response: Response<B>,
) -> Result<(), Failed>
where
    S: SendStream<Bytes>,
    B: Body<Data = Bytes>,
{
    let (mut head, body) = response.into_parts();
    // hyper does the same (`proto/h1/role.rs`). A client would wait for the final response.
    let is_interim = head.status.is_informational();
    if is_interim {
        head = Response::new(()).into_parts().0;
        head.status = StatusCode::INTERNAL_SERVER_ERROR;
    }
    for name in OF_HTTP1 {
        head.headers.remove(name);
    }
    let has_body = !is_interim && *method != Method::HEAD && may_have_body(head.status);
    // The body of a successful CONNECT is a tunnel (RFC 9110 §9.3.6).
    let is_tunnel = *method == Method::CONNECT && head.status.is_success();
    if has_body && !is_tunnel {
        declare(&mut head.headers, &body);
    }
    let date = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()));
    if let Ok(date) = date {
        head.headers.entry(DATE).or_insert(date);
    }
    let head = Response::from_parts(head, ());
    stream.send_response(head).await.map_err(|_| Failed)?;
    {
        // Dropped at the end of this block, even if it is not sent.
        let mut body = pin!(body);
        while let Some(frame) = match has_body {
            true => body.frame().await,
            false => None,
        } {
            let sent = match frame.map_err(|_| Failed)?.into_data() {
                Ok(data) if data.has_remaining() => stream.send_data(data).await,
                Ok(_) => Ok(()),
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => stream.send_trailers(trailers).await,
                    Err(_) => Ok(()),
                },
            };
            sent.map_err(|_| Failed)?;
        }
    }
    match timeout(ACKNOWLEDGE_TIMEOUT, stream.finish()).await {
        Ok(Err(_)) => Err(Failed),
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

/// Returns whether a response with this status may have a body (RFC 9110 §6.4.1).
fn may_have_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Declares the length of the body if it is known, as hyper does.
fn declare<B: Body>(headers: &mut HeaderMap, body: &B) {
    if let Some(length) = body.size_hint().exact() {
        headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
}
