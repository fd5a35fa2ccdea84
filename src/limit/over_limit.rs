use std::sync::Arc;

use super::overrun::Overrun;

/// Tells a handler whether the body of its request went past the limit.
///
/// It is in the request's extensions under a guard that was told to
/// [keep the handler's response](super::BodyGuardLayer::keep_handler_response). The
/// error itself is the one that axum's extractors know, and says no numbers.
///
/// ```
/// use axum::{Extension, Router, body::Bytes, extract::rejection::BytesRejection, routing::post};
/// use axum::http::StatusCode;
/// use tower_bodyguard::{BodyGuardLayer, MIB, limit::OverLimit};
///
/// async fn photo(
///     Extension(over): Extension<OverLimit>,
///     body: Result<Bytes, BytesRejection>,
/// ) -> Result<&'static str, (StatusCode, String)> {
///     match (body, over.received()) {
///         (Ok(_), _) => Ok("thank you"),
///         (Err(_), Some(_)) => {
///             let words = format!("photos have at most {} bytes", over.limit());
///             Err((StatusCode::PAYLOAD_TOO_LARGE, words))
///         }
///         (Err(error), None) => Err((StatusCode::BAD_REQUEST, error.body_text())),
///     }
/// }
///
/// let app: Router = Router::new()
///     .route("/photo", post(photo))
///     .layer(BodyGuardLayer::new(4 * MIB).keep_handler_response());
/// ```
#[derive(Clone, Debug)]
pub struct OverLimit(Arc<Overrun>);

impl OverLimit {
    pub(super) fn new(overrun: Arc<Overrun>) -> Self {
        Self(overrun)
    }

    /// The limit, in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit()
    }

    /// How many bytes had come when the limit was passed; `None` while it holds.
    #[must_use]
    pub fn received(&self) -> Option<u64> {
        self.0.received()
    }
}
