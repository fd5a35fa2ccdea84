use std::{error::Error, fmt, sync::Arc, task::Context};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Frame;

use super::{
    grpc::{Begun, End},
    overrun::Overrun,
    refusal::Asked,
    settings::Settings,
    size::Size,
};

/// A response that has begun while bytes of its request may still come.
#[derive(Debug)]
pub(super) struct UnderWay {
    overrun: Arc<Overrun>,
    settings: Arc<Settings>,
    call: Option<Begun>,
}

impl UnderWay {
    /// Of the response with this head.
    pub(super) fn new(
        overrun: Arc<Overrun>,
        settings: Arc<Settings>,
        response: &HeaderMap,
    ) -> Self {
        Self {
            overrun,
            settings,
            call: Begun::of(response),
        }
    }

    /// Has the task woken when the request goes past its limit.
    pub(super) fn wake_on_overrun(&self, cx: &Context<'_>) {
        self.overrun.wake_on_report(cx);
    }

    /// How the response ends, once the request is past its limit: in a last frame, or
    /// in an error. Not at all where it has ended already.
    pub(super) fn end<D: From<Bytes>>(&self) -> Option<Result<Frame<D>, BrokenOff>> {
        let received = self.overrun.received()?;
        let limit = self.overrun.limit();
        let refusal = self.settings.streamed(received, limit, Asked::default());
        let end = self.call.as_ref().map(|call| call.end(&refusal));
        match end {
            Some(End::Refused(frame)) => Some(Ok(frame)),
            Some(End::Ended) => None,
            Some(End::BrokenOff) | None => Some(Err(BrokenOff { limit, received })),
        }
    }

    /// A frame that is handed on.
    pub(super) fn sent<D: Buf>(&mut self, frame: &Frame<D>) {
        if let Some(call) = &mut self.call {
            call.sent(frame);
        }
    }
}

/// The error of a response that had begun when its request went past the limit. A call
/// of gRPC's ends with the trailers of a refusal instead.
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
