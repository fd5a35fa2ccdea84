//! The fault, for comparison: tower-http's limit instead of the limit layer, and no socket wrapper.
//! Clients that are still uploading get a connection reset instead of the 413. Streamed bodies over
//! the limit get the handler's response to the error.

use axum::Router;
use tower_http::limit::RequestBodyLimitLayer;

use crate::app::{self, Config};

/// Returns an app with the same routes, headers and logs as [`app::app`].
pub(crate) fn app(config: &Config) -> Result<Router, String> {
    let limit = usize::try_from(config.limit).map_err(|_| {
        format!(
            "--limit {} is more than tower-http can count to here",
            config.limit
        )
    })?;
    let limit = RequestBodyLimitLayer::new(limit);
    Ok(app::finish(config, app::routes(config).layer(limit)))
}
