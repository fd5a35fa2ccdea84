//! `/metrics`: the counters in Prometheus's text format.

use std::fmt::{self, Write as _};

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_bodyguard::{Counters, DiscardedCount, Linger};

/// The sources of the metrics.
#[derive(Clone)]
struct Sources {
    counters: Counters,
    linger: Linger,
}

pub(crate) fn routes(counters: &Counters, linger: &Linger) -> Router {
    let sources = Sources {
        counters: counters.clone(),
        linger: linger.clone(),
    };
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(sources)
}

async fn metrics(State(sources): State<Sources>) -> Response {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, &sources);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn write(text: &mut String, sources: &Sources) -> fmt::Result {
    let counted = sources.counters.snapshot();
    let refused = counted.refused;
    let name = "bodyguard_refusals_total";
    head(text, name, "counter", "Requests that were refused.")?;
    for (kind, count) in [
        ("declared", refused.declared),
        ("streamed", refused.streamed),
        ("too_slow", refused.too_slow),
        ("idle_timeout", refused.idle_timeout),
        ("deadline", refused.deadline),
        ("over_budget", refused.over_budget),
        ("bad_length", refused.bad_length),
        ("length_required", refused.length_required),
    ] {
        writeln!(text, "{name}{{kind=\"{kind}\"}} {count}")?;
    }
    discarded(text, "drain", "Bodies that were drained", counted.drains)?;
    let streams = "HTTP/2 streams that were drained";
    discarded(text, "stream_linger", streams, counted.stream_lingers)?;
    let lingers = "Connections that lingered";
    discarded(text, "linger", lingers, counted.lingers)?;

    let stats = sources.linger.stats();
    for (name, help, value) in [
        (
            "bodyguard_lingering",
            "Connections that linger now.",
            stats.lingering(),
        ),
        (
            "bodyguard_reading_on",
            "Bodies that are drained now.",
            stats.reading,
        ),
    ] {
        head(text, name, "gauge", help)?;
        writeln!(text, "{name} {value}")?;
    }
    Ok(())
}

fn discarded(text: &mut String, what: &str, help: &str, count: DiscardedCount) -> fmt::Result {
    let name = format!("bodyguard_{what}s_total");
    head(text, &name, "counter", &format!("{help}, by reason."))?;
    for (reason, count) in count.by_reason() {
        writeln!(text, "{name}{{reason=\"{}\"}} {count}", reason.as_str())?;
    }
    let name = format!("bodyguard_{what}_bytes_total");
    head(text, &name, "counter", &format!("{help}: bytes discarded."))?;
    writeln!(text, "{name} {}", count.bytes)
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
}
