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
use tower_bodyguard::{BodyGuardLayer, Counters, Linger, Refusal};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::{DefaultMakeSpan, DefaultOnResponse, TraceLayer};
use tracing::Level;

use crate::auth::{self, Token};
use crate::metrics;
use crate::page::{self, Format};
use crate::problem::Problem;
use crate::store::{Incoming, Store, Stored};

/// The most parts that one form may have.
const MAX_PARTS: usize = 100;

/// The most bytes that a text field may have.
const MAX_TEXT: usize = 16 * 1024;

/// For a slow upload to get going, as Kestrel has it.
const GRACE: Duration = Duration::from_secs(5);

/// Nothing but what this server's own files do; inline scripts and styles are out.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// What the app is told.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The largest request body to accept, in bytes.
    pub(crate) limit: u64,
    /// The status that refuses a larger one.
    pub(crate) status: StatusCode,
    /// The slowest upload to accept, in bytes per second.
    pub(crate) min_rate: Option<u64>,
    /// Where files go.
    pub(crate) store: Store,
    /// What a client has to know to send anything. Without one, everybody may.
    pub(crate) token: Option<Token>,
}

/// The app behind the guard.
pub(crate) fn app(config: &Config, counters: &Counters, linger: &Linger) -> Router {
    let guard = BodyGuardLayer::new(config.limit)
        .status(config.status)
        .observer(counters.observer())
        .refusal_response(refused);
    let guard = match config.min_rate {
        Some(rate) => guard.min_rate(rate, GRACE),
        None => guard,
    };
    let app = routes(config).layer(guard);
    finish(config, app.merge(metrics::routes(counters, linger)))
}

/// The routes, without any limit.
pub(crate) fn routes(config: &Config) -> Router {
    Router::new()
        .route("/", get(form).post(upload))
        .route("/raw", post(raw).put(raw))
        .with_state(config.clone())
        .merge(page::assets())
        // axum's own limit of 2 MB would come before the guard's.
        .layer(DefaultBodyLimit::disable())
}

/// What goes around the limit: who may send, and what refusals have too, headers and logs.
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

/// The guard's answer to a body over the limit: a page of ours for browsers, and for
/// others what they ask for.
fn refused(refusal: &Refusal) -> Response {
    match refusal.format() {
        RefusalFormat::Html => page::problem(Format::Html, refusal.status(), &refusal.to_string()),
        _ => RefusalResponse::<Body>::respond(&Negotiated, refusal).map(Body::new),
    }
}

async fn form(State(config): State<Config>) -> Response {
    page::form(config.limit, config.token.is_some())
}

async fn upload(
    State(config): State<Config>,
    format: Format,
    form: Result<Multipart, MultipartRejection>,
) -> Response {
    let stored = match form {
        Ok(form) => receive(form, &config.store).await,
        Err(rejection) => Err(Problem::Form(format!(
            "The request is no form: {}. Send it as multipart/form-data.",
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

/// Streams every file of the form to the disk. Whichever way this ends but
/// with `Ok`, cancelled or timed out included, no file is left behind.
async fn receive(mut form: Multipart, store: &Store) -> Result<Vec<Stored>, Problem> {
    let mut received = Vec::new();
    let mut parts = 0;
    while let Some(mut part) = form.next_field().await? {
        parts += 1;
        if parts > MAX_PARTS {
            return Err(Problem::Form(format!(
                "The form has more than {MAX_PARTS} parts. Send fewer files in one go."
            )));
        }
        let Some(name) = part.file_name() else {
            skip_text(&mut part).await?;
            continue;
        };
        let (named, shown) = (!name.is_empty(), page::shown_name(name));
        let file = save(&mut part, store.create().await?).await?;
        // A browser sends a file without name and content where none was chosen.
        if named || file.size() > 0 {
            received.push((shown, file));
        }
    }
    if received.is_empty() {
        return Err(Problem::Form(
            "The form has no file. Choose at least one.".into(),
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

/// This form's text fields say nothing; they are read past, and capped.
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
            let words = format!("The body broke off after {received} bytes: {e}. Send it again.\n");
            (StatusCode::BAD_REQUEST, words)
        })?;
        received += chunk.len() as u64;
    }
    Ok(format!("received {received} bytes\n"))
}
