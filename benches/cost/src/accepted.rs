//! The cost of an accepted request in process, compared with a plain tower service.

use std::{
    convert::Infallible,
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Empty;
use tower::{Layer, Service, ServiceBuilder, service_fn};
use tower_bodyguard::{BodyBudget, BodyGuardLayer, DeliveryLayer};
use tower_http::limit::RequestBodyLimitLayer;

use crate::{
    Effort,
    measure::{Runs, rounds_of},
    report::{Section, Target},
};

const LIMIT: usize = 4 << 20;

/// The size and framing of an upload.
#[derive(Clone, Copy)]
struct Upload {
    name: &'static str,
    frames: usize,
    frame: usize,
    chunked: bool,
    /// Targets against tower-http: for the limit layer alone, and with delivery.
    targets: (f64, f64),
}

const UPLOADS: [Upload; 4] = [
    Upload {
        name: "no body",
        frames: 0,
        frame: 0,
        chunked: false,
        targets: (0.75, 1.0),
    },
    Upload {
        name: "1 KiB",
        frames: 1,
        frame: 1 << 10,
        chunked: false,
        targets: (1.0, 1.5),
    },
    Upload {
        name: "1 MiB in frames of 16 KiB",
        frames: 64,
        frame: 16 << 10,
        chunked: false,
        targets: (1.0, 1.5),
    },
    Upload {
        name: "64 KiB, chunked",
        frames: 4,
        frame: 16 << 10,
        chunked: true,
        targets: (1.0, 1.5),
    },
];

/// A body as a server would provide it. It may declare its length, and it costs nothing itself.
struct Given {
    upload: Upload,
    left: usize,
    content: Bytes,
}

impl Body for Given {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(self.content.clone()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && !self.upload.chunked
    }

    fn size_hint(&self) -> SizeHint {
        match self.upload.chunked {
            true => SizeHint::default(),
            false => SizeHint::with_exact((self.left * self.upload.frame) as u64),
        }
    }
}

/// The smallest wrapper that a limit needs around a body.
struct Counted<B> {
    inner: B,
    bytes: usize,
}

impl<B> Counted<B> {
    fn new(inner: B) -> Self {
        Self { inner, bytes: 0 }
    }
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.bytes += frame.data_ref().map_or(0, Buf::remaining);
        }
        polled
    }
}

/// Returns a request as hyper creates it, with a `content-length` header if the length is declared.
fn request(upload: Upload, content: &Bytes) -> Request<Given> {
    let mut request = Request::post("/upload").header("host", "cost");
    if !upload.chunked {
        request = request.header("content-length", upload.frames * upload.frame);
    }
    let left = upload.frames;
    let content = content.clone();
    let given = Given {
        upload,
        left,
        content,
    };
    request.body(given).expect("the headers are valid")
}

async fn handler<B: Body>(request: Request<B>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut body = pin!(request.into_body());
    let frame = |cx: &mut Context<'_>| body.as_mut().poll_frame(cx);
    let mut frame = frame;
    while let Some(Ok(frame)) = std::future::poll_fn(&mut frame).await {
        black_box(frame.is_data());
    }
    Ok(Response::new(Empty::new()))
}

/// Makes one request and drops its response.
fn serve<S, B>(service: &mut S, request: Request<Given>)
where
    S: Service<Request<Given>, Response = Response<B>>,
{
    let cx = &mut Context::from_waker(Waker::noop());
    let mut response = pin!(service.call(request));
    let response = response.as_mut().poll(cx);
    assert!(matches!(response, Poll::Ready(Ok(_))), "it does not wait");
}

/// Returns the nanoseconds of one request, without creating it.
fn time<S, B>(service: &mut S, upload: Upload, content: &Bytes, times: usize) -> f64
where
    S: Service<Request<Given>, Response = Response<B>>,
{
    const BATCH: usize = 256;
    let mut took = std::time::Duration::ZERO;
    let mut batch = Vec::with_capacity(BATCH);
    let batches = times.div_ceil(BATCH);
    for _ in 0..batches {
        batch.extend((0..BATCH).map(|_| request(upload, content)));
        let start = Instant::now();
        for request in batch.drain(..) {
            serve(service, black_box(request));
        }
        took += start.elapsed();
    }
    took.as_secs_f64() * 1e9 / (batches * BATCH) as f64
}

fn allocations<S, B>(service: &mut S, upload: Upload, content: &Bytes) -> u64
where
    S: Service<Request<Given>, Response = Response<B>>,
{
    let request = request(upload, content);
    allocation_counter::measure(|| serve(service, request)).count_total
}

// The places in the order of measurement. The plain service is the first.
const TOWER_HTTP: usize = 2;
const GUARD: usize = 3;
const JOINED: usize = 4;
const BUDGET: usize = 5;

pub(crate) fn measure(effort: Effort) -> Section {
    let mut bare = service_fn(handler);
    let mut least = ServiceBuilder::new()
        .map_request(|request: Request<Given>| request.map(Counted::new))
        .map_response(|response: Response<Empty<Bytes>>| response.map(Counted::new))
        .service_fn(handler);
    let mut theirs = RequestBodyLimitLayer::new(LIMIT).layer(service_fn(handler));
    let guard = BodyGuardLayer::new(LIMIT as u64);
    let mut guarded = guard.clone().layer(service_fn(handler));
    let budget = BodyBudget::max_bytes(1 << 30);
    let mut budgeted = guard.clone().budget(&budget).layer(service_fn(handler));
    let mut both = DeliveryLayer::default().layer(guard.layer(service_fn(handler)));

    let mut rows = Vec::new();
    let mut targets = Vec::new();
    for upload in UPLOADS {
        let content = Bytes::from(vec![0; upload.frame]);
        let content = &content;
        let times = effort.of(256 * 200, 256) / (upload.frames / 8 + 1);
        let runs = rounds_of(
            effort.of(81, 3),
            &mut [
                &mut || time(&mut bare, upload, content, times),
                &mut || time(&mut least, upload, content, times),
                &mut || time(&mut theirs, upload, content, times),
                &mut || time(&mut guarded, upload, content, times),
                &mut || time(&mut both, upload, content, times),
                &mut || time(&mut budgeted, upload, content, times),
            ],
        );
        let counts = [
            allocations(&mut bare, upload, content),
            allocations(&mut least, upload, content),
            allocations(&mut theirs, upload, content),
            allocations(&mut guarded, upload, content),
            allocations(&mut both, upload, content),
            allocations(&mut budgeted, upload, content),
        ];
        let names = [
            "nothing",
            "other types",
            "tower-http",
            "limit layer",
            "limit layer and delivery",
            "limit layer with a budget",
        ];
        let added = |subject: usize| Runs::differences(&runs[subject], &runs[0]).median();
        let against = |subject: usize| added(subject) / added(TOWER_HTTP);
        for (subject, name) in names.into_iter().enumerate() {
            rows.push(vec![
                upload.name.to_owned(),
                name.to_owned(),
                format!("{:.0}", Runs::new(runs[subject].clone())),
                format!("{:.0}", added(subject)),
                format!("{:.2}", against(subject)),
                (counts[subject] - counts[0]).to_string(),
            ]);
        }
        let name = upload.name;
        let (alone, with_delivery) = upload.targets;
        targets.push(Target::at_most(
            alone,
            format!("{name}: limit layer / tower-http"),
            against(GUARD),
        ));
        let what = format!("{name}: limit layer and delivery / tower-http");
        targets.push(Target::at_most(with_delivery, what, against(JOINED)));
        let most = if upload.frames == 0 { 0.0 } else { 1.0 };
        let of_guard = (counts[GUARD] - counts[0]) as f64;
        targets.push(Target::at_most(
            most,
            format!("{name}: allocations of the limit layer"),
            of_guard,
        ));
        targets.push(Target::at_most(
            most,
            format!("{name}: allocations of the limit layer with a budget"),
            (counts[BUDGET] - counts[0]) as f64,
        ));
        let of_delivery = (counts[JOINED] - counts[GUARD]) as f64;
        let what = format!("{name}: allocations of delivery");
        targets.push(Target::at_most(most, what, of_delivery));
    }
    Section {
        title: "An accepted request, in process",
        how: format!(
            "Nanoseconds from the call to the dropped response, median and spread of {} \
             rounds in turn, over a tower service that reads the body. `RequestBodyLimitLayer` \
             is that of tower-http 0.7. The added time is the median of the differences within \
             each round.",
            effort.of(81, 3)
        ),
        head: &[
            "body",
            "around the service",
            "ns",
            "added",
            "against tower-http",
            "allocations",
        ],
        rows,
        targets,
        notes: vec![
            "Every layer has to change the types of a request and a response of some hundred \
             bytes. The second row only does that and counts the bytes. That alone takes a third \
             to a half of tower-http's time, and reading `Content-Length` most of the remaining \
             time. The limit layer also checks for several lengths, reads the body's size hint, \
             and may have to write its own response. Two layers change types twice."
                .to_owned(),
            "A body of unknown length may exceed the limit, and then the service's response is \
             replaced. The limit layer allocates for that. tower-http does not, and leaves the \
             response as it is, 400 or 500 with some extractors. Delivery allocates the slot to \
             which a body returns when the service drops it."
                .to_owned(),
            "A budget makes the limit layer count each body, as it does for a chunked one without a \
             budget. It takes room once, or for each 64 KiB of a body of unknown length, and \
             returns it: a compare-and-swap and a short lock of tokio's semaphore. A request \
             without a body does not touch the budget."
                .to_owned(),
            "One layer passes a frame on without moving it, and two layers do not: that takes 11 \
             to 13 ns for each frame of 16 KiB."
                .to_owned(),
        ],
        plots: Vec::new(),
    }
}
