//! Routes, handlers and layers.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::multipart::{Field, Multipart, MultipartRejection};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use tower_bodyguard::limit::{Negotiated, RefusalFormat, RefusalResponse};
use tower_bodyguard::{BodyGuardLayer, Observer, Refusal};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::{DefaultMakeSpan, DefaultOnResponse, TraceLayer};
use tracing::Level;

use crate::auth::{self, Token};
use crate::page::{self, Format};
use crate::problem::Problem;
use crate::store::{Incoming, Store, Stored};

/// The maximum number of parts in one form.
const MAX_PARTS: usize = 100;

/// The maximum number of bytes in a text field.
const MAX_TEXT: usize = 16 * 1024;

/// How long a slow upload may take to get going; Kestrel has the same grace period.
const GRACE: Duration = Duration::from_secs(5);

/// Allows only the server's own files. Inline scripts and styles are forbidden.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// The settings of the app.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The largest request body to accept, in bytes.
    pub(crate) limit: u64,
    /// The status of the refusal of a larger body.
    pub(crate) status: StatusCode,
    /// The slowest upload to accept, in bytes per second.
    pub(crate) min_rate: Option<u64>,
    /// Where uploaded files are stored.
    pub(crate) store: Store,
    /// The secret that a client needs to send anything. Without one, anyone may send.
    pub(crate) token: Option<Token>,
    /// Whether the page offers to send a file that its own check refuses.
    pub(crate) demo: bool,
}

/// Returns the app with its limit layer, and the routes that have no limit.
pub(crate) fn app(config: &Config, observer: Observer, unlimited: Router) -> Router {
    let guard = BodyGuardLayer::new(config.limit)
        .status(config.status)
        .observer(observer)
        .refusal_response(refused);
    let guard = match config.min_rate {
        Some(rate) => guard.min_rate(rate, GRACE),
        None => guard,
    };
    let app = routes(config).layer(guard);
    finish(config, app.merge(unlimited))
}

/// Returns the routes without any limit.
pub(crate) fn routes(config: &Config) -> Router {
    Router::new()
        .route("/", get(form).post(upload))
        .route("/raw", post(raw).put(raw))
        .with_state(config.clone())
        .merge(page::assets())
        // axum's own limit of 2 MB would apply before the limit layer's.
        .layer(DefaultBodyLimit::disable())
}

/// Adds the layers around the limit: the token check, and the headers and logs that refusals get,
/// too.
pub(crate) fn finish(config: &Config, app: Router) -> Router {
    let app = match &config.token {
        Some(token) => auth::protect(app, token),
        None => app,
    };
    let header =
        |name, value| SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value));
    app.layer(header(CONTENT_SECURITY_POLICY, POLICY))
        .layer(header(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(REFERRER_POLICY, "no-referrer"))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(DefaultMakeSpan::new().level(Level::INFO))
                .on_response(DefaultOnResponse::new().level(Level::INFO)),
        )
}

/// Creates the refusal for a body over the limit: our own page for browsers, and the requested
/// format for other clients.
fn refused(refusal: &Refusal) -> Response {
    match refusal.format() {
        RefusalFormat::Html => page::problem(Format::Html, refusal.status(), &refusal.message()),
        _ => RefusalResponse::<Body>::respond(&Negotiated, refusal).map(Body::new),
    }
}

async fn form(State(config): State<Config>) -> Response {
    page::form(&config)
}

async fn upload(
    State(config): State<Config>,
    format: Format,
    form: Result<Multipart, MultipartRejection>,
) -> Response {
    let stored = match form {
        Ok(form) => receive(form, &config.store).await,
        Err(rejection) => Err(Problem::Form(format!(
            "The request is not a form: {}. Send it as multipart/form-data.",
            rejection.body_text()
        ))),
    };
    match stored {
        Ok(files) => page::stored(format, &files),
        Err(problem) => {
            tracing::warn!(%problem, "nothing was stored");
            page::problem(format, problem.status(), &problem.to_string())
        }
    }
}

/// Streams every file of the form to the disk. Unless this returns `Ok`, no file is left behind,
/// even after a cancellation or a timeout.
async fn receive(mut form: Multipart, store: &Store) -> Result<Vec<Stored>, Problem> {
    let mut received = Vec::new();
    let mut parts = 0;
    while let Some(mut part) = form.next_field().await? {
        parts += 1;
        if parts > MAX_PARTS {
            return Err(Problem::Form(format!(
                "The form has more than {MAX_PARTS} parts. Send fewer files at a time."
            )));
        }
        let Some(name) = part.file_name() else {
            skip_text(&mut part).await?;
            continue;
        };
        let (named, shown) = (!name.is_empty(), page::shown_name(name));
        let file = save(&mut part, store.create().await?).await?;
        // A browser sends a file without name and content if the user chose none.
        if named || file.size() > 0 {
            received.push((shown, file));
        }
    }
    if received.is_empty() {
        return Err(Problem::Form(
            "No file was chosen. Choose at least one.".into(),
        ));
    }
    Ok(store.keep(received).await?)
}

async fn save(part: &mut Field<'_>, mut file: Incoming) -> Result<Incoming, Problem> {
    while let Some(chunk) = part.chunk().await? {
        file.write(&chunk).await?;
    }
    file.finish().await?;
    Ok(file)
}

/// Discards a text field, up to a limit. The form's text fields are not used.
async fn skip_text(part: &mut Field<'_>) -> Result<(), Problem> {
    let mut size = 0;
    while let Some(chunk) = part.chunk().await? {
        size += chunk.len();
        if size > MAX_TEXT {
            return Err(Problem::Form(format!(
                "A text field has more than {MAX_TEXT} bytes. Send less text, or send it as a file."
            )));
        }
    }
    Ok(())
}

/// Counts a body of any kind as it streams by.
async fn raw(body: Body) -> Result<String, (StatusCode, String)> {
    let mut received: u64 = 0;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| {
            let words =
                format!("The body ended early, after {received} bytes: {e}. Send it again.\n");
            (StatusCode::BAD_REQUEST, words)
        })?;
        received += chunk.len() as u64;
    }
    Ok(format!("received {received} bytes\n"))
}
