//! Compares the CPU time of an accepted request on one core with that on two at the same time. A
//! lock or a cache line that all connections write to shows as a difference from the service alone,
//! whose own ratio is that of the machine: two cores may be two threads of one.

use std::{
    convert::Infallible,
    future::{Future, IntoFuture, pending, poll_fn},
    hint::black_box,
    io,
    pin::pin,
    sync::Barrier,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use axum::{Router, routing::post, serve::Listener};
use futures_util::future::join_all;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{Empty, Full};
use hyper::body::Bytes;
use nix::time::{ClockId, clock_gettime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::mpsc,
};
use tower::{Layer, Service, service_fn};
use tower_bodyguard::{BodyGuardLayer, Linger};
use tower_http::limit::RequestBodyLimitLayer;

use crate::{
    Effort,
    load::request,
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

/// A listener whose connections are in memory.
struct Memory(mpsc::UnboundedReceiver<DuplexStream>);

impl Listener for Memory {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(socket) => (socket, ()),
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The number of connections that a server in memory serves at the same time.
const CONNECTIONS: usize = 16;

/// Runs a server and its clients on a runtime with this many worker threads. Returns the CPU time of
/// all threads in nanoseconds per request.
fn on_workers<F>(workers: usize, times: u32, serve: impl FnOnce(Memory) -> F) -> f64
where
    F: IntoFuture<Output = io::Result<()>, IntoFuture: Send + 'static>,
{
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(workers).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let (connect, listener) = mpsc::unbounded_channel();
        tokio::spawn(serve(Memory(listener)).into_future());
        let clients = (0..CONNECTIONS).map(|_| {
            let (client, server) = duplex(16 << 10);
            connect.send(server).expect("the server listens");
            client
        });
        // The first requests of each connection are not measured.
        let clients = join_all(clients.map(|client| tokio::spawn(ask(client, 100)))).await;
        let before = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
        let each = times / CONNECTIONS as u32;
        let clients = clients.into_iter().map(|client| client.expect("no panic"));
        join_all(clients.map(|client| tokio::spawn(ask(client, each)))).await;
        let after = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
        let [before, after] = [before, after].map(|time| Duration::from(time.expect("a clock")));
        (after - before).as_nanos() as f64 / (each * CONNECTIONS as u32) as f64
    })
}

/// Sends this many requests one after the other.
async fn ask(mut client: DuplexStream, times: u32) -> DuplexStream {
    let request = request("POST /", &["content-length: 1024"], 1024);
    let mut response = [0; 1024];
    for _ in 0..times {
        client.write_all(&request).await.expect("the server reads");
        let read = client.read(&mut response).await.expect("a response");
        assert!(response[..read].starts_with(b"HTTP/1.1 200"));
    }
    client
}

/// Compares the servers with one worker and with two. Returns a row for each.
fn served(effort: Effort, router: &Router) -> Vec<Vec<String>> {
    let (rounds, times) = (effort.of(15, 1), effort.of(200_000, 2000));
    let guarded = BodyGuardLayer::axum(LIMIT as u64).layer(router.clone());
    let stock = |workers| on_workers(workers, times, |memory| axum::serve(memory, router.clone()));
    let ours = |workers| {
        on_workers(workers, times, |memory| {
            tower_bodyguard::axum::serve(memory, guarded.clone())
        })
    };
    let figures = rounds_of(
        rounds,
        &mut [
            &mut || stock(1),
            &mut || stock(2),
            &mut || ours(1),
            &mut || ours(2),
        ],
    );
    let row = |name: &str, one: &[f64], two: &[f64]| {
        let median = |figures: &[f64]| Runs::new(figures.to_vec()).median();
        vec![
            name.to_owned(),
            format!("{:.0}", median(one)),
            format!("{:.0}", median(two)),
            format!("{:.2}", Runs::ratios(two, one)),
        ]
    };
    vec![
        row(
            "`axum::serve`, in memory, with its client",
            &figures[0],
            &figures[1],
        ),
        row(
            "`tower_bodyguard::axum::serve`, all parts combined, in memory, with its client",
            &figures[2],
            &figures[3],
        ),
    ]
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
            let (socket, _client) = duplex(1);
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
    let mut rows: Vec<_> = subjects
        .map(|(name, subject)| {
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
        })
        .into();
    rows.extend(served(effort, &router));
    Section {
        title: "Accepted requests on two cores",
        how: format!(
            "CPU time in nanoseconds for each POST of 1 KiB, in process, with one connection on \
             one core and with one on each of two cores. The connections share the layers and the \
             app, and have services of their own. {times} requests, median of {rounds} rounds in \
             turn; the ratio with its spread. The service is cloned for each request, as hyper and \
             axum do. The last two rows are of servers, with {CONNECTIONS} connections in memory, \
             on a runtime with one worker thread and on one with two."
        ),
        head: &["", "one core", "two cores", "ratio"],
        rows,
        targets: Vec::new(),
        notes: Vec::new(),
        plots: Vec::new(),
    }
}
