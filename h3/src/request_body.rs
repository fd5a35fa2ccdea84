use std::{
    any::type_name,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use h3::{error::Code, quic::RecvStream, server::RequestStream};
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};

use crate::RequestBodyError;

/// A request body over the receiving half of h3's `RequestStream`.
///
/// It yields the data and the trailers. `size_hint` comes from `Content-Length`, and a body of
/// another length ends in an error, because such a request is malformed (RFC 9114 §4.1.2). h3 does
/// not check that. The client is then asked to stop with `H3_MESSAGE_ERROR`.
///
/// The body looks for its end when it is made. So `is_end_stream` is true for most requests without
/// a body, such as a GET, although no task has polled it.
///
/// # Drop
///
/// If the body is dropped before its end, the client is asked to stop with `H3_NO_ERROR`
/// (`STOP_SENDING`, RFC 9114 §4.1). With [`with_response`](Self::with_response) that waits for the
/// response.
///
/// The drop never panics. `h3_quinn` 0.0.10 panics in `stop_sending` when a poll was pending before
/// ([h3#331](https://github.com/hyperium/h3/issues/331)), and shows no sign of that state. So with
/// `h3_quinn` the body only drops its stream, and the client gets the code 0. The streams of
/// [`quic`](crate::quic) have no such limit.
///
/// ```
/// use axum::{Router, body::Body};
/// use bytes::Bytes;
/// use h3::{error::StreamError, quic, server::RequestResolver};
/// use tower::ServiceExt;
/// use tower_bodyguard_h3::RequestBody;
///
/// async fn respond<Q>(app: Router, resolver: RequestResolver<Q, Bytes>) -> Result<(), StreamError>
/// where
///     Q: quic::Connection<Bytes>,
///     Q::BidiStream: quic::BidiStream<Bytes, RecvStream: Send + Unpin + 'static>,
/// {
///     let (head, stream) = resolver.resolve_request().await?;
///     let (mut send, recv) = stream.split();
///     let (body, guard) = RequestBody::with_response(recv, head.headers());
///     let request = head.map(|()| Body::new(body));
///     let response = app.oneshot(request).await.unwrap_or_else(|never| match never {});
///     send.send_response(response.map(|_| ())).await?;
///     // … the body of the response
///     send.finish().await?;
///     drop(guard);
///     Ok(())
/// }
/// ```
pub struct RequestBody<S: RecvStream> {
    /// `None` once nothing more is read from it.
    stream: Option<RequestStream<S, Bytes>>,
    /// Whether only trailers can follow.
    is_data_over: bool,
    /// The frame, the end or the error that was there when the body was made.
    first: Option<Result<Frame<Bytes>, RequestBodyError>>,
    declared: Option<u64>,
    /// The bytes that were read from the stream.
    received: u64,
    response: Option<Arc<Response<S>>>,
}

/// Shows that a response is in progress: see [`RequestBody::with_response`].
#[must_use = "the client is asked to stop when this is dropped"]
pub struct ResponseGuard<S: RecvStream>(Arc<Response<S>>);

/// The state that a body shares with the [`ResponseGuard`].
struct Response<S: RecvStream>(Mutex<State<S>>);

enum State<S: RecvStream> {
    InProgress,
    /// The body was dropped meanwhile, or is malformed. The client is to be stopped with this code.
    Unread(RequestStream<S, Bytes>, Code),
    Over,
}

impl<S: RecvStream> RequestBody<S> {
    /// Creates the body of a request with these headers.
    ///
    /// A drop asks the client to stop immediately, even if the response is not out yet. RFC 9114
    /// §4.1 allows that, but some clients lose the response then.
    #[must_use]
    pub fn new(stream: RequestStream<S, Bytes>, headers: &HeaderMap) -> Self {
        Self::begin(stream, headers, None)
    }

    /// Creates the body of a request with these headers, and a guard. While the guard exists, a
    /// drop of the body does not ask the client to stop. That happens when the guard is dropped: do
    /// so when the client has the end of the response, or when the response has failed.
    pub fn with_response(
        stream: RequestStream<S, Bytes>,
        headers: &HeaderMap,
    ) -> (Self, ResponseGuard<S>) {
        let response = Arc::new(Response(Mutex::new(State::InProgress)));
        let body = Self::begin(stream, headers, Some(Arc::clone(&response)));
        (body, ResponseGuard(response))
    }

    fn begin(
        stream: RequestStream<S, Bytes>,
        headers: &HeaderMap,
        response: Option<Arc<Response<S>>>,
    ) -> Self {
        let mut body = Self {
            stream: Some(stream),
            is_data_over: false,
            first: None,
            declared: content_length(headers),
            received: 0,
            response,
        };
        // A task that polls the body later registers its own waker.
        let cx = &mut Context::from_waker(Waker::noop());
        if let Poll::Ready(first) = body.poll_next(cx) {
            body.first = first;
        }
        body
    }

    /// Reads the next frame, and drops the stream at its end.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(None);
        };
        while !self.is_data_over {
            let data = match ready!(stream.poll_recv_data(cx)) {
                Ok(Some(mut data)) => data.copy_to_bytes(data.remaining()),
                Ok(None) => {
                    self.is_data_over = true;
                    break;
                }
                Err(error) => return self.fail(RequestBodyError::stream(error)),
            };
            self.received = self.received.saturating_add(data.len() as u64);
            if let Some(declared) = self.declared.filter(|declared| self.received > *declared) {
                return self.fail(RequestBodyError::length(declared, self.received));
            }
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
        if let Some(declared) = self.declared.filter(|declared| self.received < *declared) {
            return self.fail(RequestBodyError::length(declared, self.received));
        }
        match ready!(stream.poll_recv_trailers(cx)) {
            Ok(trailers) => {
                self.stream = None;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Err(error) => self.fail(RequestBodyError::stream(error)),
        }
    }

    fn fail(
        &mut self,
        error: RequestBodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let code = match error.is_length_mismatch() {
            true => Code::H3_MESSAGE_ERROR,
            false => Code::H3_NO_ERROR,
        };
        if let Some(stream) = self.stream.take() {
            self.give_up(stream, code);
        }
        Poll::Ready(Some(Err(error)))
    }

    /// Asks the client to stop: after the response, if one is in progress.
    fn give_up(&self, mut stream: RequestStream<S, Bytes>, code: Code) {
        if let Some(response) = &self.response {
            let mut state = response.lock();
            if let State::InProgress = *state {
                *state = State::Unread(stream, code);
                return;
            }
        }
        stop(&mut stream, code);
    }

    /// Returns how many bytes have been read and not been handed out yet.
    fn held(&self) -> u64 {
        let first = self.first.as_ref().and_then(|first| first.as_ref().ok());
        first
            .and_then(Frame::data_ref)
            .map_or(0, |data| data.len() as u64)
    }
}

/// Returns the declared length. The service has to refuse a malformed one, or several that differ
/// (RFC 9110 §8.6).
fn content_length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let first = lengths.next()?;
    let is_one =
        lengths.all(|other| other == first) && first.as_bytes().iter().all(u8::is_ascii_digit);
    is_one.then(|| first.to_str().ok()?.parse().ok()).flatten()
}

/// Asks the client to stop, unless that may panic.
fn stop<S: RecvStream>(stream: &mut RequestStream<S, Bytes>, code: Code) {
    // It panics after a pending poll. h3 polls beneath the body, so that no caller knows whether
    // one was.
    if !type_name::<S>().starts_with("h3_quinn::") {
        stream.stop_sending(code);
    }
}

impl<S: RecvStream + Unpin> Body for RequestBody<S> {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => self.poll_next(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_none() && self.first.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held();
        match self.declared {
            _ if self.stream.is_none() => SizeHint::with_exact(held),
            Some(declared) => SizeHint::with_exact(declared - self.received + held),
            None => {
                let mut at_least = SizeHint::new();
                at_least.set_lower(held);
                at_least
            }
        }
    }
}

impl<S: RecvStream> Drop for RequestBody<S> {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.give_up(stream, Code::H3_NO_ERROR);
        }
    }
}

impl<S: RecvStream> Response<S> {
    /// Ignores poisoning: no panic leaves the state half-updated.
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: RecvStream> Drop for ResponseGuard<S> {
    fn drop(&mut self) {
        let state = std::mem::replace(&mut *self.0.lock(), State::Over);
        if let State::Unread(mut stream, code) = state {
            stop(&mut stream, code);
        }
    }
}

impl<S: RecvStream> fmt::Debug for RequestBody<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("declared", &self.declared)
            .field("received", &self.received)
            .field("is_read", &self.stream.is_none())
            .finish_non_exhaustive()
    }
}

impl<S: RecvStream> fmt::Debug for ResponseGuard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseGuard").finish_non_exhaustive()
    }
}
