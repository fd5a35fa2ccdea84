//! Events as `tracing` and `metrics` receive them.
#![cfg(all(feature = "axum", feature = "metrics", feature = "tracing"))]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
};

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use testkit::{Framing, LARGE, MIB, SendFirst, client::PATIENCE};
use tower_bodyguard::{BodyBudget, BodyGuardLayer, Event, Linger, LingerConfig, Observer};
use tracing_subscriber::fmt::MakeWriter;

use crate::server::{Server, counting};

/// The bytes that were written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// A process has one subscriber and one recorder, hence one test.
#[test]
fn both_are_told() {
    let lines = Lines::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(lines.clone())
        .init();
    let recorder = DebuggingRecorder::new();
    let recorded = recorder.snapshotter();
    recorder.install().unwrap();

    // When the last observer is called, the others have been.
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let last = Observer::new(move |event| {
        if let Event::Lingered(_) = event {
            tell.lock().unwrap().send(()).unwrap();
        }
    });
    let observer = Observer::tracing().and(Observer::metrics()).and(last);
    let guard = BodyGuardLayer::new(4 * MIB).observer(observer.clone());
    let linger = Linger::new(LingerConfig::new().observer(observer));
    let server = Server::run_with(linger, |listener, linger| async move {
        let app = counting().layer(guard);
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        tower_bodyguard::axum::serve(listener, app)
            .with_linger(&linger)
            .await
            .unwrap();
    });
    SendFirst::post("/", Framing::ContentLength, LARGE)
        .to(server.addr)
        .assert_delivered(413);
    told.recv_timeout(PATIENCE).unwrap();
    server.linger.record_gauges("http");
    BodyBudget::max_bytes(MIB).record_gauges("uploads");

    let recorded = recorded.snapshot().into_vec().into_iter();
    let mut counted: Vec<_> = recorded
        .map(|(key, _, description, value)| {
            let name = key.key().name().to_owned();
            assert!(description.is_some(), "{name} has a description");
            let (_, key) = key.into_parts();
            let mut labels: Vec<_> = key.labels().map(|label| label.value().to_owned()).collect();
            labels.sort();
            let value = match value {
                DebugValue::Counter(bytes) if key.name().ends_with("bytes_total") => {
                    u64::from(bytes > 0 && bytes <= LARGE)
                }
                DebugValue::Counter(count) => count,
                DebugValue::Histogram(seconds) => seconds.len() as u64,
                DebugValue::Gauge(value) => value.into_inner() as u64,
            };
            format!("{} {labels:?} {value}", key.name())
        })
        .collect();
    counted.sort();
    let zeros = |name: &str| {
        let zeros = counted
            .iter()
            .filter(|line| line.starts_with(name) && line.ends_with(" 0"));
        zeros.count()
    };
    assert_eq!(zeros("bodyguard_refusals_total"), 7);
    for name in [
        "bodyguard_lingers_total",
        "bodyguard_drains_total",
        "bodyguard_stream_lingers_total",
    ] {
        assert!(zeros(name) >= 7, "{name}: {counted:?}");
    }
    counted.retain(|line| !line.ends_with(" 0"));
    assert_eq!(
        counted,
        [
            r#"bodyguard_budget_max_bytes ["uploads"] 1048576"#,
            r#"bodyguard_linger_bytes_total [] 1"#,
            r#"bodyguard_linger_duration_seconds [] 1"#,
            r#"bodyguard_lingers_total ["completed"] 1"#,
            r#"bodyguard_refusals_total ["declared"] 1"#,
            r#"bodyguard_route_refusals_total ["/", "413", "declared"] 1"#,
        ]
    );

    let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let line = |what: &str| {
        let found = said.lines().find(|line| line.contains(what));
        found.unwrap_or_else(|| panic!("no {what} in {said}"))
    };
    let refused = line("tower_bodyguard: refused");
    assert!(refused.contains("INFO"), "{refused}");
    for field in [
        "kind=\"declared\"",
        "status=413",
        "method=\"POST\"",
        "route=\"/\"",
        "peer=127.0.0.1:",
        "limit_bytes=4194304",
        "declared_bytes=67108864",
    ] {
        assert!(refused.contains(field), "{refused}");
    }
    assert!(!refused.contains("path="), "the route is known: {refused}");
    let lingered = line("tower_bodyguard: lingered");
    assert!(
        lingered.contains("DEBUG") && lingered.contains("reason=\"completed\""),
        "{lingered}"
    );
    for field in ["peer=127.0.0.1:", "discarded_bytes=", "lasted_seconds="] {
        assert!(lingered.contains(field), "{lingered}");
    }
}
