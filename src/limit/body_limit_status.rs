use std::sync::Arc;

use super::upload::Upload;

/// A request extension that tells a handler whether its request body is over the limit.
///
/// A layer with [`keep_handler_response`](crate::BodyGuardLayer::keep_handler_response) inserts it
/// into each request that reaches the handler. It has the limit and the number of received bytes.
/// The body's error has neither: it is a `LengthLimitError`, because axum's extractors recognize
/// only that type.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Extension, Router, body::Bytes, extract::rejection::BytesRejection, routing::post};
/// use axum::http::StatusCode;
/// use tower_bodyguard::{BodyGuardLayer, MIB, limit::BodyLimitStatus};
///
/// async fn photo(
///     Extension(over): Extension<BodyLimitStatus>,
///     body: Result<Bytes, BytesRejection>,
/// ) -> Result<&'static str, (StatusCode, String)> {
///     match (body, over.received()) {
///         (Ok(_), _) => Ok("thank you"),
///         (Err(_), Some(received)) => {
///             let text = format!("the photo has at least {received} bytes");
///             Err((StatusCode::PAYLOAD_TOO_LARGE, text))
///         }
///         (Err(error), None) => Err((StatusCode::BAD_REQUEST, error.body_text())),
///     }
/// }
///
/// let app: Router = Router::new()
///     .route("/photo", post(photo))
///     .layer(BodyGuardLayer::axum(4 * MIB).keep_handler_response());
/// # }
/// ```
///
/// A request that declares a length over the limit never reaches the handler: the layer refuses
/// it.
#[derive(Clone, Debug)]
pub struct BodyLimitStatus {
    upload: Arc<Upload>,
    limit: Option<u64>,
}

impl BodyLimitStatus {
    pub(super) fn new(upload: Arc<Upload>, limit: Option<u64>) -> Self {
        Self { upload, limit }
    }

    /// Returns the limit, in bytes, or `None` if there is none.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Returns the number of bytes received when the body went over the limit, or `None` if it has
    /// not gone over it.
    #[must_use]
    pub fn received(&self) -> Option<u64> {
        self.upload.signal.received()
    }
}
