//! Compares the CPU time of an accepted request on one core with that on two at the same time. A
//! lock or a cache line that all connections write to shows as a difference from the service alone,
//! whose own ratio is that of the machine: two cores may be two threads of one.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    hint::black_box,
    pin::pin,
    sync::Barrier,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use axum::{Router, routing::post};
use http::{Request, Response};
use http_body::Body;
use http_body_util::{Empty, Full};
use hyper::body::Bytes;
use nix::time::{ClockId, clock_gettime};
use tower::{Layer, Service, service_fn};
use tower_bodyguard::{BodyGuardLayer, Linger};
use tower_http::limit::RequestBodyLimitLayer;

use crate::{
    Effort,
    measure::{Runs, rounds_of},
    process::{Cores, on_core},
    report::Section,
};

const LIMIT: usize = 4 << 20;

/// Serves a connection once the others have begun, and returns its figure.
type Connection<'a> = dyn Fn(&Barrier) -> f64 + Sync + 'a;

/// Reads the whole body.
async fn read<B: Body>(request: Request<B>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut body = pin!(request.into_body());
    while let Some(Ok(frame)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        black_box(frame.is_data());
    }
    Ok(Response::new(Empty::new()))
}

/// Sends requests over one connection, whose service is cloned for each, as hyper and axum do.
/// Returns the CPU time of the thread in nanoseconds per request.
fn serve<S, B>(connection: S, times: u32, start: &Barrier) -> f64
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone,
{
    let content = Bytes::from_static(&[0; 1 << 10]);
    let cx = &mut Context::from_waker(Waker::noop());
    start.wait();
    let before = cpu_of_thread();
    for _ in 0..times {
        let request = Request::post("/").header("content-length", "1024");
        let request = request.body(Full::new(content.clone()));
        let mut service = connection.clone();
        let response = pin!(service.call(black_box(request.expect("it is valid"))));
        assert!(matches!(response.poll(cx), Poll::Ready(Ok(_))));
    }
    (cpu_of_thread() - before).as_nanos() as f64 / f64::from(times)
}

fn cpu_of_thread() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    Duration::from(time.expect("Linux has this clock"))
}

/// Runs a connection on each of the cores at the same time. Returns the mean of their figures.
fn on_cores(cores: &[usize], connection: &Connection<'_>) -> f64 {
    let start = Barrier::new(cores.len());
    let sum: f64 = thread::scope(|scope| {
        let start = &start;
        let threads = cores
            .iter()
            .map(|core| scope.spawn(move || on_core(Some(*core), || connection(start))))
            .collect::<Vec<_>>();
        let figures = threads.into_iter().map(|thread| thread.join());
        figures.map(|figure| figure.expect("no panic")).sum()
    });
    sum / cores.len() as f64
}

pub(crate) fn measure(effort: Effort) -> Section {
    let times = effort.of(400_000, 1000);
    let rounds = effort.of(15, 1);
    let app = service_fn(read::<Full<Bytes>>);
    let tower_http = RequestBodyLimitLayer::new(LIMIT).layer(service_fn(read));
    let limit = BodyGuardLayer::new(LIMIT as u64);
    let limit_of_axum = BodyGuardLayer::axum(LIMIT as u64);
    let linger = Linger::default();
    let router = Router::new().route("/", post(|body: Bytes| async move { drop(body) }));
    let inside = router.clone().layer(limit_of_axum.clone());
    let subjects: [(&str, &Connection<'_>); 7] = [
        ("the service alone", &|start| serve(app, times, start)),
        ("with tower-http's `RequestBodyLimitLayer`", &|start| {
            serve(tower_http, times, start)
        }),
        ("with the limit layer", &|start| {
            serve(limit.layer(service_fn(read)), times, start)
        }),
        ("with the limit layer and delivery, combined", &|start| {
            let (socket, _client) = tokio::io::duplex(1);
            let (_io, service) = linger.wrap(socket, limit.layer(service_fn(read)));
            serve(service, times, start)
        }),
        ("an axum app", &|start| serve(router.clone(), times, start)),
        ("an axum app with the limit layer around", &|start| {
            serve(limit_of_axum.layer(router.clone()), times, start)
        }),
        (
            "an axum app with the limit layer by `Router::layer`",
            &|start| serve(inside.clone(), times, start),
        ),
    ];
    let cores = Cores::find().map(|cores| [cores.server, cores.load]);
    let rows = subjects.map(|(name, subject)| {
        let Some(both) = cores else {
            let one = subject(&Barrier::new(1));
            return vec![
                name.to_owned(),
                format!("{one:.0}"),
                String::new(),
                String::new(),
            ];
        };
        let figures = rounds_of(
            rounds,
            &mut [&mut || on_cores(&both[..1], subject), &mut || {
                on_cores(&both, subject)
            }],
        );
        let ratios = Runs::ratios(&figures[1], &figures[0]);
        let [one, two] = [0, 1].map(|index| Runs::new(figures[index].clone()).median());
        vec![
            name.to_owned(),
            format!("{one:.0}"),
            format!("{two:.0}"),
            format!("{ratios:.2}"),
        ]
    });
    Section {
        title: "Accepted requests on two cores",
        how: format!(
            "CPU time in nanoseconds for each POST of 1 KiB, in process, with one connection on \
             one core and with one on each of two cores. The connections share the layers and the \
             app, and have services of their own. {times} requests, median of {rounds} rounds in turn; the ratio with its spread. The \
             service is cloned for each request, as hyper and axum do."
        ),
        head: &["", "one core", "two cores", "ratio"],
        rows: rows.into(),
        targets: Vec::new(),
        notes: Vec::new(),
        plots: Vec::new(),
    }
}
