use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::in_progress::InProgress;
use crate::BoxError;

pin_project! {
    /// The response body of [`BodyGuard`](super::BodyGuard): the service's own, or the text of a
    /// refusal.
    ///
    /// If the request body goes over its limit when the service's response has begun, this body
    /// ends in [`ResponseAborted`](super::ResponseAborted). On HTTP/1 hyper then closes the
    /// connection before the last chunk or the declared length. On HTTP/2 it resets the stream.
    /// The client can detect either. The response to a gRPC call ends with the trailers of a
    /// refusal instead, unless a gRPC-Web message is half sent.
    ///
    /// A custom [`RefusalResponse`](super::RefusalResponse) makes it from bytes:
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body::Body;
    /// use http_body_util::Empty;
    /// use tower_bodyguard::limit::ResponseBody;
    ///
    /// let body: ResponseBody<Empty<Bytes>> = Bytes::from("too large").into();
    /// assert_eq!(body.size_hint().exact(), Some(9));
    /// ```
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        state: ResponseBodyState<B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = ResponseBodyStateProj]
    enum ResponseBodyState<B> {
        Service {
            #[pin]
            body: B,
            // `None` if the request can no longer be refused.
            in_progress: Option<InProgress>,
        },
        Text { text: Bytes },
        Ended,
    }
}

impl<B> ResponseBody<B> {
    /// Wraps the service's own body, which does not depend on the request body.
    pub(crate) fn of_service(body: B) -> Self {
        let state = ResponseBodyState::Service {
            body,
            in_progress: None,
        };
        Self { state }
    }

    /// Wraps the service's own body, which ends early if the request body goes over its limit.
    pub(super) fn unless_over_limit(body: B, in_progress: InProgress) -> Self {
        let state = ResponseBodyState::Service {
            body,
            in_progress: Some(in_progress),
        };
        Self { state }
    }

    /// Returns the service's own body if the request can no longer be refused. Otherwise, and if
    /// this is a refusal, returns `self` as the error.
    #[cfg(feature = "axum")]
    pub(crate) fn into_plain(self) -> Result<B, Self> {
        match self.state {
            ResponseBodyState::Service {
                body,
                in_progress: None,
            } => Ok(body),
            state => Err(Self { state }),
        }
    }
}

/// Makes a body of one frame, for custom responses.
impl<B> From<Bytes> for ResponseBody<B> {
    fn from(text: Bytes) -> Self {
        let state = match text.is_empty() {
            true => ResponseBodyState::Ended,
            false => ResponseBodyState::Text { text },
        };
        Self { state }
    }
}

/// Makes an empty body. Layers that respond by themselves, such as tower-http's CORS, require
/// `Default`.
impl<B> Default for ResponseBody<B> {
    fn default() -> Self {
        let state = ResponseBodyState::Ended;
        Self { state }
    }
}

impl<B: Body> ResponseBody<B> {
    pub(super) fn hint(&self) -> SizeHint {
        match &self.state {
            ResponseBodyState::Service { body, .. } => body.size_hint(),
            ResponseBodyState::Text { text } => SizeHint::with_exact(text.len() as u64),
            ResponseBodyState::Ended => SizeHint::with_exact(0),
        }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body,
    B::Data: From<Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut state = self.project().state;
        let (body, in_progress) = match state.as_mut().project() {
            ResponseBodyStateProj::Service { body, in_progress } => (body, in_progress),
            ResponseBodyStateProj::Text { text } => {
                let text = std::mem::take(text);
                state.set(ResponseBodyState::Ended);
                return Poll::Ready(Some(Ok(Frame::data(text.into()))));
            }
            ResponseBodyStateProj::Ended => return Poll::Ready(None),
        };

        let polled = body.poll_frame(cx);
        if let Some(watched) = in_progress {
            if polled.is_pending() {
                watched.wake_over_limit(cx);
            }
            // Check after the poll, because the poll may have read the request body.
            if let Some(end) = watched.end() {
                state.set(ResponseBodyState::Ended);
                return Poll::Ready(Some(end.map_err(Into::into)));
            }
            if let Poll::Ready(Some(Ok(frame))) = &polled {
                watched.sent(frame);
            }
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            ResponseBodyState::Service { body, .. } => body.is_end_stream(),
            ResponseBodyState::Text { .. } => false,
            ResponseBodyState::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::poll_fn,
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Wake, Waker},
    };

    use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
    use http_body_util::StreamBody;

    use super::*;
    use crate::{
        limit::{ResponseAborted, upload::Upload},
        shared::limit_signal::Violation,
    };

    /// Follows a response with this content type.
    fn in_progress(upload: &Arc<Upload>, content_type: &'static str) -> InProgress {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        InProgress::new(Arc::clone(upload), &headers)
    }

    const TOO_LONG: Violation = Violation::TooLong { received: 5 };

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn silent() -> impl Body<Data = Bytes, Error = Infallible> {
        StreamBody::new(futures_util::stream::pending())
    }

    #[test]
    fn a_response_that_waits_is_woken_and_aborted() {
        let upload = Upload::with_limit(4);
        let mut body = pin!(ResponseBody::unless_over_limit(
            silent(),
            in_progress(&upload, "text/plain")
        ));
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let cx = &mut Context::from_waker(&waker);

        assert!(body.as_mut().poll_frame(cx).is_pending());
        upload.signal.report(TOO_LONG);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        let Poll::Ready(Some(Err(error))) = body.as_mut().poll_frame(cx) else {
            panic!("not aborted");
        };
        assert!(error.is::<ResponseAborted>());
        assert!(matches!(body.poll_frame(cx), Poll::Ready(None)), "fused");
    }

    #[tokio::test]
    async fn a_last_frame_does_not_hide_the_overrun() {
        let upload = Upload::with_limit(4);
        let reads = Arc::clone(&upload);
        let ends_without_error = StreamBody::new(futures_util::stream::poll_fn(move |_| {
            reads.signal.report(TOO_LONG);
            Poll::Ready(None::<Result<Frame<Bytes>, Infallible>>)
        }));
        let body =
            ResponseBody::unless_over_limit(ends_without_error, in_progress(&upload, "text/plain"));
        let mut body = pin!(body);
        let frame = poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        assert!(frame.unwrap().unwrap_err().is::<ResponseAborted>());
    }

    fn frames(
        frames: impl IntoIterator<Item = Frame<Bytes>>,
    ) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let frames = frames.into_iter().map(Ok).collect::<Vec<_>>();
        StreamBody::new(futures_util::stream::iter(frames))
    }

    async fn next<B: Body + Unpin>(body: &mut B) -> Option<Result<Frame<B::Data>, B::Error>> {
        poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
    }

    fn status(code: &'static str) -> Frame<Bytes> {
        let status = HeaderValue::from_static(code);
        Frame::trailers(
            [(HeaderName::from_static("grpc-status"), status)]
                .into_iter()
                .collect(),
        )
    }

    #[tokio::test]
    async fn a_call_of_grpc_ends_with_its_status() {
        let upload = Upload::of_call(4, "application/grpc");
        let message = Frame::data(Bytes::from_static(b"message"));
        let body = frames([message, status("0")]);
        let mut body =
            ResponseBody::unless_over_limit(body, in_progress(&upload, "application/grpc"));
        assert!(next(&mut body).await.unwrap().unwrap().is_data());
        upload.signal.report(TOO_LONG);
        let end = next(&mut body).await.unwrap().unwrap().into_trailers();
        assert_eq!(end.unwrap()["grpc-status"], "8");
        assert!(next(&mut body).await.is_none());
    }

    #[tokio::test]
    async fn a_call_of_the_web_ends_with_its_status_in_the_body() {
        let upload = Upload::of_call(4, "application/grpc-web");
        let body = frames([Frame::data(Bytes::from_static(b"\0\0\0\0\x01."))]);
        let mut body =
            ResponseBody::unless_over_limit(body, in_progress(&upload, "application/grpc-web"));
        assert!(next(&mut body).await.unwrap().unwrap().is_data());
        upload.signal.report(TOO_LONG);
        let end = next(&mut body).await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(end[0], 0x80);
        assert_eq!(end[1..5], (end.len() as u32 - 5).to_be_bytes());
        assert!(end[5..].starts_with(b"grpc-status:8\r\n"));
        assert!(next(&mut body).await.is_none());
    }

    /// Sends half a message. Its second half would be trailers if the first were complete.
    #[tokio::test]
    async fn a_message_that_is_cut_is_no_place_for_a_status() {
        let upload = Upload::of_call(4, "application/grpc-web");
        let halves = [b"\0\0\0\0\x02A" as &[u8], b"\x80"];
        let body = frames(halves.map(|half| Frame::data(Bytes::from_static(half))));
        let mut body =
            ResponseBody::unless_over_limit(body, in_progress(&upload, "application/grpc-web"));
        assert!(next(&mut body).await.unwrap().unwrap().is_data());
        upload.signal.report(TOO_LONG);
        assert!(
            next(&mut body)
                .await
                .unwrap()
                .unwrap_err()
                .is::<ResponseAborted>()
        );
    }

    /// Over HTTP/1, hyper would leave out trailers, and the response would look complete.
    #[tokio::test]
    async fn grpc_response_to_no_call_is_aborted() {
        let upload = Upload::with_limit(4);
        let body = frames([Frame::data(Bytes::from_static(b"message"))]);
        let mut body =
            ResponseBody::unless_over_limit(body, in_progress(&upload, "application/grpc"));
        assert!(next(&mut body).await.unwrap().unwrap().is_data());
        upload.signal.report(TOO_LONG);
        let error = next(&mut body).await.unwrap().unwrap_err();
        assert!(error.is::<ResponseAborted>());
    }

    #[tokio::test]
    async fn a_call_that_has_its_status_gets_no_second_one() {
        for (content_type, end) in [
            ("application/grpc", status("0")),
            (
                "application/grpc-web",
                Frame::data(Bytes::from_static(b"\x80\0\0\0\0")),
            ),
            (
                "application/grpc-web-text",
                Frame::data(Bytes::from_static(b"gAAAAAA=")),
            ),
        ] {
            let upload = Upload::of_call(4, content_type);
            let mut body =
                ResponseBody::unless_over_limit(frames([end]), in_progress(&upload, content_type));
            assert!(next(&mut body).await.is_some());
            upload.signal.report(TOO_LONG);
            assert!(next(&mut body).await.is_none(), "{content_type}");
        }
    }
}
