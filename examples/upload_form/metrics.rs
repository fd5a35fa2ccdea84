//! `/metrics`: the metrics in Prometheus's text format.

use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tower_bodyguard::Linger;

/// The upper limits of the buckets for durations, in seconds. By default, a drain takes at most
/// 5 s, and a lingering close at most 10 minutes.
const BUCKETS: [f64; 13] = [
    0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];

/// How often the recorder sorts the durations into their buckets, if no client reads `/metrics`.
const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the recorder of this process.
pub(crate) fn install() -> Result<PrometheusHandle, BuildError> {
    let durations = Matcher::Suffix("_duration_seconds".into());
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(durations, &BUCKETS)?
        .install_recorder()?;
    let kept = recorder.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            kept.run_upkeep();
        }
    });
    Ok(recorder)
}

pub(crate) fn routes(recorder: PrometheusHandle, linger: &Linger) -> Router {
    let linger = linger.clone();
    let metrics = || async move {
        linger.record_gauges("form");
        let format = "text/plain; version=0.0.4";
        ([(CONTENT_TYPE, format)], recorder.render()).into_response()
    };
    Router::new().route("/metrics", get(metrics))
}
