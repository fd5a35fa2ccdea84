//! The fault, to be seen and compared: tower-http's limit in the place of the
//! guard, and nothing on the connection. Clients that are still uploading get a
//! connection reset instead of the 413, and streamed bodies over the limit get
//! whatever the handler made of the error.

use axum::Router;
use tower_http::limit::RequestBodyLimitLayer;

use crate::app::{self, Config};

/// The same routes, headers and logs as [`app::app`] has.
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
