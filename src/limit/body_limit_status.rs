use std::sync::Arc;

use super::upload::Upload;

/// Tells a handler whether the body of its request went past the limit.
///
/// It is in the request's extensions under a guard that was told to
/// [keep the handler's response](super::BodyGuardLayer::keep_handler_response). The
/// error itself is the one that axum's extractors know, and says no numbers.
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
///             let words = format!("{received} bytes, and the photo goes on");
///             Err((StatusCode::PAYLOAD_TOO_LARGE, words))
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
/// A body that declares too much never reaches the handler: the guard refuses it.
#[derive(Clone, Debug)]
pub struct BodyLimitStatus {
    upload: Arc<Upload>,
    limit: Option<u64>,
}

impl BodyLimitStatus {
    pub(super) fn new(upload: Arc<Upload>, limit: Option<u64>) -> Self {
        Self { upload, limit }
    }

    /// The limit, in bytes; `None` where there is none.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// How many bytes had come when the limit was passed; `None` while it holds.
    #[must_use]
    pub fn received(&self) -> Option<u64> {
        self.upload.signal.received()
    }
}
