use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{overrun::Overrun, size::Size};
use crate::BoxError;

pin_project! {
    /// The body of a response that passed through a guard: the service's own, or
    /// the words of a refusal.
    ///
    /// Where the request body goes past its limit while the service's response
    /// is on its way already, the body ends in [`BrokenOff`]: on HTTP/1 hyper
    /// then closes before the last chunk or the declared length, on HTTP/2 it
    /// resets the stream. The client can tell that something went wrong.
    ///
    /// An [`OnRefusal`](super::OnRefusal) of one's own makes it from bytes:
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
        state: State<B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProj]
    enum State<B> {
        Service {
            #[pin]
            body: B,
            // `None` where the request body has ended within its limit.
            overrun: Option<Arc<Overrun>>,
        },
        Text { text: Bytes },
        Ended,
    }
}

impl<B> ResponseBody<B> {
    /// The service's own, whatever becomes of the request body.
    pub(super) fn of_service(body: B) -> Self {
        let state = State::Service {
            body,
            overrun: None,
        };
        Self { state }
    }

    /// The service's own, as long as the request body keeps to its limit.
    pub(super) fn unless_overrun(body: B, overrun: Arc<Overrun>) -> Self {
        let state = State::Service {
            body,
            overrun: Some(overrun),
        };
        Self { state }
    }
}

/// An answer of one's own, in one piece.
impl<B> From<Bytes> for ResponseBody<B> {
    fn from(text: Bytes) -> Self {
        let state = State::Text { text };
        Self { state }
    }
}

/// An empty body: layers that answer by themselves, as tower-http's CORS does, ask for
/// it.
impl<B> Default for ResponseBody<B> {
    fn default() -> Self {
        let state = State::Ended;
        Self { state }
    }
}

impl<B: Body> ResponseBody<B> {
    pub(super) fn hint(&self) -> SizeHint {
        match &self.state {
            State::Service { body, .. } => body.size_hint(),
            State::Text { text } => SizeHint::with_exact(text.len() as u64),
            State::Ended => SizeHint::with_exact(0),
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
        let (body, overrun) = match state.as_mut().project() {
            StateProj::Service { body, overrun } => (body, overrun),
            StateProj::Text { text } => {
                let text = std::mem::take(text);
                state.set(State::Ended);
                return Poll::Ready(Some(Ok(Frame::data(text.into()))));
            }
            StateProj::Ended => return Poll::Ready(None),
        };

        let polled = body.poll_frame(cx);
        if let Some(watched) = overrun {
            if polled.is_pending() {
                watched.wake_on_report(cx);
            }
            // After the poll: that may have been what read the request body.
            if let Some(received) = watched.received() {
                let error = BrokenOff {
                    limit: watched.limit(),
                    received,
                };
                state.set(State::Ended);
                return Poll::Ready(Some(Err(error.into())));
            }
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Service { body, .. } => body.is_end_stream(),
            State::Text { text } => text.is_empty(),
            State::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.hint()
    }
}

/// The error of a response that had begun when its request went past the limit.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_bodyguard::{BodyGuardLayer, GuardedBody, limit::BrokenOff};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // Answers with what it is sent, while it is sent.
/// let echo = service_fn(|request: Request<GuardedBody<Full<Bytes>>>| async {
///     Ok::<_, std::convert::Infallible>(Response::new(request.into_body()))
/// });
/// let service = ServiceBuilder::new().layer(BodyGuardLayer::new(4)).service(echo);
/// let response = service.oneshot(Request::new(Full::from("hello"))).await.unwrap();
/// let error = response.into_body().collect().await.unwrap_err();
/// assert!(error.is::<BrokenOff>());
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BrokenOff {
    limit: u64,
    received: u64,
}

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the response is broken off: it had begun when the request body, with {}, went past \
             its limit of {}",
            Size(self.received),
            Size(self.limit),
        )
    }
}

impl Error for BrokenOff {}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::poll_fn,
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
        task::{Wake, Waker},
    };

    use http_body_util::StreamBody;

    use super::*;

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
    fn a_response_that_waits_is_woken_and_broken_off() {
        let overrun = Arc::new(Overrun::new(4));
        let mut body = pin!(ResponseBody::unless_overrun(silent(), overrun.clone()));
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let cx = &mut Context::from_waker(&waker);

        assert!(body.as_mut().poll_frame(cx).is_pending());
        overrun.report(5);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        let Poll::Ready(Some(Err(error))) = body.as_mut().poll_frame(cx) else {
            panic!("not broken off");
        };
        assert!(error.is::<BrokenOff>());
        assert!(matches!(body.poll_frame(cx), Poll::Ready(None)), "fused");
    }

    #[tokio::test]
    async fn a_last_frame_does_not_hide_the_overrun() {
        let overrun = Arc::new(Overrun::new(4));
        let reads = overrun.clone();
        let ends_as_if_all_were_well = StreamBody::new(futures_util::stream::poll_fn(move |_| {
            reads.report(5);
            Poll::Ready(None::<Result<Frame<Bytes>, Infallible>>)
        }));
        let body = ResponseBody::unless_overrun(ends_as_if_all_were_well, overrun);
        let mut body = pin!(body);
        let frame = poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        assert!(frame.unwrap().unwrap_err().is::<BrokenOff>());
    }
}
