use std::{error::Error, fmt, sync::Arc, task::Context};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Frame;

use super::{
    grpc::{Begun, End},
    upload::Upload,
};
use crate::refusal::Refusal;

/// A response that has begun while bytes of its request may still arrive.
#[derive(Debug)]
pub(super) struct InProgress {
    upload: Arc<Upload>,
}

impl InProgress {
    /// Starts to follow the response with this head.
    pub(super) fn new(upload: Arc<Upload>, response: &HeaderMap) -> Self {
        if upload.is_call() {
            *upload.begun() = Begun::of(response);
        }
        Self { upload }
    }

    /// Registers the task, which is woken when the request goes over its limit.
    pub(super) fn wake_over_limit(&self, cx: &Context<'_>) {
        self.upload.signal.wake_on_report(cx);
    }

    /// Returns the last frame or the error that ends the response, once the request is over its
    /// limit. Returns `None` before that, and if the response has ended already.
    pub(super) fn end<D: From<Bytes>>(&self) -> Option<Result<Frame<D>, ResponseAborted>> {
        let refusal = self.upload.refusal()?;
        let end = match &*self.upload.begun() {
            Some(call) => call.end(&refusal),
            None => End::Unfinished,
        };
        let frame = match end {
            End::Ended => return None,
            End::Refused(frame) => Some(frame),
            End::Unfinished => None,
        };
        Some(frame.ok_or(ResponseAborted(refusal)))
    }

    /// Records a frame that is passed on to the client.
    pub(super) fn sent<D: Buf>(&self, frame: &Frame<D>) {
        if let Some(call) = &mut *self.upload.begun() {
            call.sent(frame);
        }
    }
}

/// The error of a response that had begun when its request went over the limit.
///
/// The response to a gRPC call ends with the trailers of a refusal instead, unless a gRPC-Web
/// message is half sent.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_bodyguard::{BodyGuardLayer, GuardedBody, limit::ResponseAborted};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // Sends the request body back while it arrives.
/// let echo = service_fn(|request: Request<GuardedBody<Full<Bytes>>>| async {
///     Ok::<_, std::convert::Infallible>(Response::new(request.into_body()))
/// });
/// let service = ServiceBuilder::new().layer(BodyGuardLayer::new(4)).service(echo);
/// let response = service.oneshot(Request::new(Full::from("hello"))).await.unwrap();
/// let error = response.into_body().collect().await.unwrap_err();
/// assert!(error.is::<ResponseAborted>());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ResponseAborted(Refusal);

impl ResponseAborted {
    /// Returns the refusal that aborted the response.
    #[must_use]
    pub fn refusal(&self) -> &Refusal {
        &self.0
    }
}

impl fmt::Display for ResponseAborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refusal = &self.0;
        write!(f, "the response had begun and is aborted: {refusal}")
    }
}

impl Error for ResponseAborted {}
