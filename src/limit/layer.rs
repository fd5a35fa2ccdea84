use http::{Response, StatusCode};
use tower_layer::Layer;

use super::{BodyGuard, Custom, PlainText, Refusal};

/// Limits the bodies of the requests to a service.
///
/// # What the client gets
///
/// - `Content-Length` over the limit: 413 at once, the service is never called.
/// - More bytes than the limit on the way: 413, whatever the service made of the
///   error that its body ended in. The service is left to finish, and its answer
///   is dropped. Where it had begun to answer already, the response is
///   [broken off](super::BrokenOff).
/// - A `Content-Length` that is no number, or several that differ: 400.
///
/// A body of exactly `limit` bytes passes.
///
/// # Example
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use http_body_util::{BodyExt, Full};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_bodyguard::{BodyGuardLayer, GuardedBody, MIB};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// async fn echo(
///     request: Request<GuardedBody<Full<Bytes>>>,
/// ) -> Result<Response<Full<Bytes>>, tower_bodyguard::BoxError> {
///     let body = request.into_body().collect().await?.to_bytes();
///     Ok(Response::new(Full::new(body)))
/// }
///
/// let service = ServiceBuilder::new()
///     .layer(BodyGuardLayer::new(4 * MIB))
///     .service_fn(echo);
///
/// let request = Request::new(Full::from(vec![0; 5_000_000]));
/// let response = service.oneshot(request).await.unwrap();
/// assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
/// # }
/// ```
///
/// # Caveats
///
/// **Alone, the guard answers rightly, but hyper closes the connection while the
/// client still sends, and the answer is lost.** The hook mends that: see
/// [`Linger`](crate::Linger).
#[derive(Clone, Copy, Debug)]
pub struct BodyGuardLayer<R = PlainText> {
    limit: u64,
    status: StatusCode,
    respond: R,
}

impl BodyGuardLayer {
    /// Refuses bodies of more than `limit` bytes.
    #[must_use]
    pub const fn new(limit: u64) -> Self {
        Self {
            limit,
            status: StatusCode::PAYLOAD_TOO_LARGE,
            respond: PlainText,
        }
    }
}

impl<R> BodyGuardLayer<R> {
    /// The status of a refusal for size, 413 if this is not called. A malformed
    /// `Content-Length` is 400 in any case.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Answers with what `respond` makes of the refusal, in the service's own body
    /// type. The status is the closure's to set, from [`Refusal::status`].
    ///
    /// ```
    /// use axum::{Router, response::IntoResponse, routing::post};
    /// use tower_bodyguard::{BodyGuardLayer, MIB, Refusal};
    ///
    /// let guard = BodyGuardLayer::new(4 * MIB)
    ///     .on_refusal(|r: &Refusal| (r.status(), format!("no more than {}", r.limit())).into_response());
    /// let app: Router = Router::new()
    ///     .route("/", post(|body: String| async { body }))
    ///     .layer(guard);
    /// ```
    pub fn on_refusal<F, B>(self, respond: F) -> BodyGuardLayer<Custom<F>>
    where
        F: Fn(&Refusal) -> Response<B>,
    {
        BodyGuardLayer {
            limit: self.limit,
            status: self.status,
            respond: Custom::new(respond),
        }
    }
}

impl<S, R: Clone> Layer<S> for BodyGuardLayer<R> {
    type Service = BodyGuard<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        BodyGuard::new(inner, self.limit, self.status, self.respond.clone())
    }
}
