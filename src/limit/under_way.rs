use std::{error::Error, fmt, sync::Arc, task::Context};

use bytes::{Buf, Bytes};
use http_body::Frame;

use super::{overrun::Overrun, refusal::Asked, settings::Settings, size::Size};

/// A response that has begun while bytes of its request may still come.
#[derive(Debug)]
pub(super) struct UnderWay {
    overrun: Arc<Overrun>,
    request: Asked,
    settings: Arc<Settings>,
}

impl UnderWay {
    pub(super) fn new(overrun: Arc<Overrun>, request: Asked, settings: Arc<Settings>) -> Self {
        Self {
            overrun,
            request,
            settings,
        }
    }

    /// Has the task woken when the request goes past its limit.
    pub(super) fn wake_on_overrun(&self, cx: &Context<'_>) {
        self.overrun.wake_on_report(cx);
    }

    /// How the response ends, once the request is past its limit.
    pub(super) fn take_end<D: From<Bytes>>(&mut self) -> Option<Result<Frame<D>, BrokenOff>> {
        let received = self.overrun.received()?;
        let limit = self.overrun.limit();
        let request = std::mem::take(&mut self.request);
        let refusal = self.settings.streamed(received, limit, request);
        Some(match refusal.call() {
            Some(call) => Ok(call.end(&refusal)),
            None => Err(BrokenOff { limit, received }),
        })
    }

    /// Whether the service has ended a call of gRPC's in this frame: a second status
    /// would be none.
    pub(super) fn is_end<D: Buf>(&self, frame: &Frame<D>) -> bool {
        let call = self.request.call();
        call.is_some_and(|call| call.is_end(frame))
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
