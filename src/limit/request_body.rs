use std::{
    cell::Cell,
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Full, Limited};
use pin_project_lite::pin_project;

use super::{
    body_budget::{NoRoom, Reservation, Wait},
    pace_meter::{Pace, PaceMeter},
    upload::Upload,
};
use crate::{BoxError, refusal::RefusalKind};

pin_project! {
    /// A request body that ends in an error once it is over its limit.
    ///
    /// The first N bytes pass, and so do trailers. The frame that goes over N is withheld as a
    /// whole. The error is a boxed [`http_body_util::LengthLimitError`], not wrapped in another
    /// error, because axum's extractors look for that type. After an error or the end, the
    /// inner body is dropped, and there are no more frames.
    ///
    /// A body whose size hint is within the limit ends in the same error if it yields more. The
    /// layer trusts the hint, though, so the response to such a body stays the service's own.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::{BodyExt, Full, LengthLimitError};
    /// use tower::{ServiceBuilder, ServiceExt};
    /// use tower_bodyguard::{BoxError, BodyGuardLayer, GuardedBody};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// async fn see(
    ///     request: Request<GuardedBody<Full<Bytes>>>,
    /// ) -> Result<Response<Full<Bytes>>, BoxError> {
    ///     let error = request.into_body().collect().await.unwrap_err();
    ///     assert!(error.is::<LengthLimitError>());
    ///     Err(error)
    /// }
    ///
    /// let service = ServiceBuilder::new().layer(BodyGuardLayer::new(4)).service_fn(see);
    /// let response = service.oneshot(Request::new(Full::from("hello"))).await.unwrap();
    /// assert_eq!(response.status(), 413);
    /// # }
    /// ```
    #[derive(Debug)]
    pub struct GuardedBody<B> {
        #[pin]
        inner: Option<B>,
        // The maximum number of bytes.
        max: u64,
        received: u64,
        upload: Option<Arc<Upload>>,
        // Boxed, because few bodies have any of it.
        timed: Option<Box<Timed>>,
    }
}

/// The parts of a body that depend on time.
#[derive(Debug)]
pub(super) struct Timed {
    meter: Option<PaceMeter>,
    /// The body waits for room in a budget.
    wait: Option<Wait>,
}

impl Timed {
    /// Returns `None` if the body has no limit in time.
    #[inline]
    pub(super) fn new(
        pace: Option<Pace>,
        multiplexed: bool,
        wait_timeout: Option<Duration>,
    ) -> Option<Box<Self>> {
        if pace.is_none() && wait_timeout.is_none() {
            return None;
        }
        Some(Box::new(Self {
            meter: pace.map(|pace| PaceMeter::new(pace, multiplexed)),
            wait: wait_timeout.map(Wait::new),
        }))
    }

    fn waker(&self) -> Option<&Waker> {
        self.meter.as_ref()?.waker()
    }

    fn end_poll(&mut self) {
        if let Some(meter) = &mut self.meter {
            meter.end_poll();
        }
    }
}

thread_local! {
    /// Whether a body refused itself while it was polled. A limit layer inside of it learns by
    /// this that the error comes from a limit layer, and not from a limit of another crate.
    static REFUSED_OUTSIDE: Cell<bool> = const { Cell::new(false) };
}

impl<B> GuardedBody<B> {
    pub(super) fn counted(
        inner: B,
        max: u64,
        upload: Arc<Upload>,
        timed: Option<Box<Timed>>,
    ) -> Self {
        Self {
            inner: Some(inner),
            max,
            received: 0,
            upload: Some(upload),
            timed,
        }
    }

    /// Wraps a body whose size hint is within its limit, or which has no limit. If the hint is
    /// wrong, the body ends in an error that only the service observes.
    #[inline]
    pub(crate) fn bounded(inner: B, limit: u64) -> Self {
        Self {
            inner: Some(inner),
            max: limit,
            received: 0,
            upload: None,
            timed: None,
        }
    }

    /// Returns the inner body if there is nothing to count: there is no limit, or the body is at
    /// its end and its size hint agrees.
    #[cfg(feature = "axum")]
    pub(crate) fn into_plain(self) -> Result<B, Self>
    where
        B: Body,
    {
        match self {
            Self {
                inner: Some(inner),
                max,
                upload: None,
                ..
            } if max == super::settings::NO_LIMIT
                || (inner.is_end_stream() && inner.size_hint().exact() == Some(0)) =>
            {
                Ok(inner)
            }
            counted => Err(counted),
        }
    }

    /// Drops the inner body and the shared state at the end of the body. If the service keeps the
    /// request, it then occupies no buffers of the transport. The response body no longer has to
    /// check the request.
    fn finish(self: Pin<&mut Self>) {
        let mut this = self.project();
        this.inner.set(None);
        // Other bodies have no state in `timed`.
        if this.upload.take().is_some() {
            *this.timed = None;
        }
    }

    /// Begins a poll of a body that may be refused. Pending while it waits for room in the budget.
    #[inline(never)]
    fn poll_begin(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        REFUSED_OUTSIDE.set(false);
        ready!(self.as_mut().poll_room(cx))?;
        let timed = self.project().timed.as_mut();
        if let Some(meter) = timed.and_then(|timed| timed.meter.as_mut()) {
            meter.begin_poll(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for room in the budget, before the first byte is read.
    fn poll_room(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let this = self.as_mut().project();
        let reservation = this
            .upload
            .as_ref()
            .and_then(|upload| upload.reservation.as_ref());
        let (Some(timed), Some(reservation)) = (this.timed, reservation) else {
            return Poll::Ready(Ok(()));
        };
        let Some(wait) = &mut timed.wait else {
            return Poll::Ready(Ok(()));
        };
        if reservation.poll_wait(cx).is_pending() {
            ready!(wait.poll_over(cx));
            return Poll::Ready(Err(self.over_budget()));
        }
        timed.wait = None;
        // The server has made the client wait until now.
        if let Some(meter) = &mut timed.meter {
            meter.restart_deadline();
        }
        Poll::Ready(Ok(()))
    }

    /// Counts the bytes received so far. Ends the body if it is over its limit, or if there is no
    /// room for it.
    #[inline]
    fn count(mut self: Pin<&mut Self>, received: u64) -> Result<(), BoxError> {
        let this = self.as_mut().project();
        if received > *this.max {
            return Err(self.over_limit(received));
        }
        *this.received = received;
        match this.upload {
            Some(upload) => match upload.grow_room(received) {
                Ok(()) => Ok(()),
                Err(NoRoom::Now) => Err(self.over_budget()),
                Err(NoRoom::Ever) => Err(self.over_limit(received)),
            },
            None => Ok(()),
        }
    }

    /// Ends the body after an error of the inner body.
    fn fail(self: Pin<&mut Self>, error: BoxError) -> BoxError {
        // A limit layer outside reports its own refusals.
        if let Some(upload) = self.upload.as_ref().filter(|_| !REFUSED_OUTSIDE.get()) {
            upload.settings.meet_error(&*error, upload.signal.limit());
        }
        self.finish();
        error
    }

    /// Ends the body, which was received whole.
    fn end(self: Pin<&mut Self>) {
        if let Some(upload) = &self.upload {
            upload.body_has_ended();
        }
        self.finish();
    }

    /// Ends the body if the client is too slow. Pending while it is not.
    fn poll_too_slow(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<BoxError> {
        let this = self.as_mut().project();
        let meter = this.timed.as_mut().and_then(|timed| timed.meter.as_mut());
        let (Some(meter), Some(upload)) = (meter, this.upload) else {
            return Poll::Pending;
        };
        let kind = ready!(meter.poll_too_slow(*this.received, cx));
        upload.refuse(kind);
        self.finish();
        Poll::Ready(BodyTooSlow { kind }.into())
    }

    #[cold]
    fn over_budget(self: Pin<&mut Self>) -> BoxError {
        if let Some(upload) = self.upload.as_deref() {
            let retry_after = upload.reservation.as_ref().map(Reservation::retry_after);
            let retry_after = retry_after.unwrap_or_default();
            upload.refuse(RefusalKind::OverBudget { retry_after });
            upload.end_reservation();
        }
        REFUSED_OUTSIDE.set(true);
        self.finish();
        length_limit_error()
    }

    /// Ends the body, which is over its limit after so many bytes.
    #[cold]
    fn over_limit(self: Pin<&mut Self>, received: u64) -> BoxError {
        if let Some(upload) = self.upload.as_deref() {
            upload.refuse(RefusalKind::Streamed { received });
        }
        REFUSED_OUTSIDE.set(true);
        self.finish();
        length_limit_error()
    }
}

impl<B> Body for GuardedBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    // A frame has about 100 bytes. None of the functions called here takes or returns one, except
    // for the poll of the inner body, so that the compiler need not copy it.
    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.upload.is_some() {
            if let Err(error) = ready!(self.as_mut().poll_begin(cx)) {
                return Poll::Ready(Some(Err(error)));
            }
        }
        let this = self.as_mut().project();
        let Some(inner) = this.inner.as_pin_mut() else {
            return Poll::Ready(None);
        };
        let waker = this.timed.as_ref().and_then(|timed| timed.waker());
        let waker = waker.unwrap_or(cx.waker());
        let polled = inner.poll_frame(&mut Context::from_waker(waker));
        if let Some(timed) = this.timed {
            timed.end_poll();
        }
        Poll::Ready(match polled {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Buf::remaining) as u64;
                let received = this.received.saturating_add(length);
                match self.count(received) {
                    Ok(()) => Some(Ok(frame)),
                    Err(error) => Some(Err(error)),
                }
            }
            Poll::Ready(Some(Err(error))) => Some(Err(self.fail(error.into()))),
            Poll::Ready(None) => {
                self.end();
                None
            }
            // All declared bytes have been received, and hyper may report the end later.
            Poll::Pending if self.timed.is_none() || self.is_end_stream() => return Poll::Pending,
            Poll::Pending => Some(Err(ready!(self.poll_too_slow(cx)))),
        })
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let Some(inner) = &self.inner else {
            return SizeHint::with_exact(0);
        };
        let promised = inner.size_hint();
        // One more than may pass. With an exact hint, a hyper client would forward the body by
        // its length alone, and never poll for more.
        let remaining = self.max - self.received;
        let most = remaining.saturating_add(1);
        let mut hint = SizeHint::new();
        hint.set_upper(promised.upper().map_or(most, |upper| upper.min(most)));
        hint.set_lower(promised.lower().min(remaining));
        hint
    }
}

/// The error of a body that was received too slowly, see
/// [`min_rate`](crate::BodyGuardLayer::min_rate),
/// [`idle_timeout`](crate::BodyGuardLayer::idle_timeout) and
/// [`deadline`](crate::BodyGuardLayer::deadline).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyTooSlow {
    kind: RefusalKind,
}

impl BodyTooSlow {
    /// Returns which limit the client did not keep: [`RefusalKind::TooSlow`],
    /// [`RefusalKind::IdleTimeout`] or [`RefusalKind::DeadlineExceeded`].
    #[must_use]
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }
}

impl fmt::Display for BodyTooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RefusalKind::IdleTimeout { timeout } => {
                write!(f, "the upload was silent for {timeout:?}")
            }
            RefusalKind::DeadlineExceeded { deadline } => {
                write!(f, "the upload took more than {deadline:?}")
            }
            RefusalKind::TooSlow { rate } => {
                write!(f, "the upload is slower than {rate} bytes per second")
            }
            _ => f.write_str("the upload is too slow"),
        }
    }
}

impl Error for BodyTooSlow {}

/// Makes a [`http_body_util::LengthLimitError`]. It has no public constructor, so a body that
/// goes over its limit has to make it.
fn length_limit_error() -> BoxError {
    let mut over_limit = Limited::new(Full::new(Bytes::from_static(b"1")), 0);
    let cx = &mut Context::from_waker(Waker::noop());
    match Pin::new(&mut over_limit).poll_frame(cx) {
        Poll::Ready(Some(Err(error))) => error,
        // `Limited` is documented not to get here. If it does, this is still an error, though
        // not the one that extractors know.
        _ => "length limit exceeded".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http::{HeaderMap, HeaderValue};
    use http_body_util::{BodyExt, LengthLimitError};
    use proptest::prelude::*;

    use super::*;
    use crate::budget::Least;

    type Step = Result<Frame<Bytes>, &'static str>;

    /// Yields its steps, and panics when it is polled past its end.
    #[derive(Debug)]
    struct Script {
        steps: VecDeque<Step>,
        ended: bool,
    }

    impl Body for Script {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            assert!(!self.ended, "polled past the end");
            let step = self.steps.pop_front();
            self.ended = !matches!(step, Some(Ok(_)));
            Poll::Ready(step)
        }
    }

    fn guarded(limit: u64, steps: impl IntoIterator<Item = Step>) -> GuardedBody<Script> {
        let script = Script {
            steps: steps.into_iter().collect(),
            ended: false,
        };
        GuardedBody::counted(script, limit, Upload::with_limit(limit), None)
    }

    fn data(length: usize) -> Step {
        Ok(Frame::data(Bytes::from(vec![b'x'; length])))
    }

    fn next(body: &mut GuardedBody<Script>) -> Option<Result<Frame<Bytes>, BoxError>> {
        match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => frame,
            Poll::Pending => panic!("scripts are always ready"),
        }
    }

    #[test]
    fn over_the_limit_is_the_error_that_extractors_know() {
        let mut body = guarded(4, [data(4), data(1), data(1)]);
        let upload = body.upload.clone().unwrap();
        assert!(next(&mut body).unwrap().is_ok());
        assert_eq!(upload.signal.received(), None);
        let error = next(&mut body).unwrap().unwrap_err();
        assert!(error.is::<LengthLimitError>());
        assert_eq!(upload.signal.received(), Some(5));
        assert!(next(&mut body).is_none(), "fused");
        assert!(body.is_end_stream());
    }

    #[test]
    fn a_body_that_has_lied_is_cut_all_the_same() {
        let script = guarded(u64::MAX, [data(4), data(1)]).inner.unwrap();
        let mut body = GuardedBody::bounded(script, 4);
        assert!(next(&mut body).unwrap().is_ok());
        let error = next(&mut body).unwrap().unwrap_err();
        assert!(error.is::<LengthLimitError>());
        assert!(next(&mut body).is_none(), "fused");
    }

    /// Behaves like hyper's body: after the last byte it stays pending, and only `is_end_stream`
    /// shows the end.
    struct Unsaid(usize);

    impl Body for Unsaid {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            match std::mem::take(&mut self.0) {
                0 => Poll::Pending,
                left => Poll::Ready(Some(data(left))),
            }
        }

        fn is_end_stream(&self) -> bool {
            self.0 == 0
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_has_come_is_not_slow() {
        let pace = Pace {
            least: Some(Least {
                rate: 1000,
                grace: Duration::from_secs(5),
            }),
            idle_timeout: Some(Duration::from_secs(5)),
            deadline: Some(Duration::from_secs(5)),
        };
        let upload = Upload::with_limit(9);
        let mut body = GuardedBody::counted(
            Unsaid(9),
            9,
            upload.clone(),
            Timed::new(Some(pace), false, None),
        );
        assert!(body.frame().await.unwrap().is_ok());
        let end = tokio::time::timeout(Duration::from_secs(60), body.frame()).await;
        assert!(end.is_err(), "nothing more comes");
        assert!(upload.refusal().is_none());
    }

    #[test]
    fn trailers_pass_after_the_last_byte_of_the_limit() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("7"));
        let mut body = guarded(4, [data(4), Ok(Frame::trailers(trailers.clone()))]);
        assert!(next(&mut body).unwrap().is_ok());
        let frame = next(&mut body).unwrap().unwrap();
        assert_eq!(frame.into_trailers().unwrap(), trailers);
        assert!(next(&mut body).is_none());
    }

    #[test]
    fn errors_of_the_inner_body_pass_once() {
        let mut body = guarded(4, [data(1), Err("reset"), data(1)]);
        assert!(next(&mut body).unwrap().is_ok());
        assert_eq!(next(&mut body).unwrap().unwrap_err().to_string(), "reset");
        assert!(next(&mut body).is_none(), "fused");
    }

    #[test]
    fn hints_never_promise_more_than_can_come() {
        let full = |length: usize, limit| {
            let full = Full::new(Bytes::from(vec![0; length]));
            GuardedBody::counted(full, limit, Upload::with_limit(limit), None).size_hint()
        };
        assert_eq!(full(4, 10).exact(), Some(4));
        assert_eq!(full(10, 4).upper(), Some(5));
        assert_eq!(guarded(7, []).size_hint().upper(), Some(8));
        assert_eq!(guarded(0, []).size_hint().exact(), None, "more may come");
        assert_eq!(guarded(7, []).size_hint().lower(), 0);
    }

    proptest! {
        /// Compares with the model: frames pass while their sum is within the limit.
        #[test]
        fn any_split_trips_at_the_same_byte(
            limit in 0u64..64,
            frames in prop::collection::vec(0usize..24, 0..12),
        ) {
            let mut body = guarded(limit, frames.iter().map(|&length| data(length)));
            let mut sum = 0;
            for &length in &frames {
                sum += length as u64;
                let frame = next(&mut body).expect("one for each frame");
                prop_assert_eq!(frame.is_ok(), sum <= limit);
                if sum > limit {
                    break;
                }
            }
            prop_assert!(next(&mut body).is_none());
        }
    }
}
