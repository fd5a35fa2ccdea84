//! What an accepted request costs more in process, over a plain tower service.

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
use tower_bodyguard::{BodyGuardLayer, DeliveryLayer};
use tower_http::limit::RequestBodyLimitLayer;

use crate::{
    Effort,
    measure::{Runs, rounds_of},
    report::{Section, Target},
};

const LIMIT: usize = 4 << 20;

/// What is uploaded.
#[derive(Clone, Copy)]
struct Upload {
    name: &'static str,
    frames: usize,
    frame: usize,
    chunked: bool,
    /// Of the guard alone, and of both parts, against tower-http.
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

/// Of a server: it knows its length or not, and costs nothing itself.
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

/// The least that any limit puts around a body.
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

/// As hyper's: `content-length` is among the headers where there is one.
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

/// One request to the dropped response.
fn serve<S, B>(service: &mut S, request: Request<Given>)
where
    S: Service<Request<Given>, Response = Response<B>>,
{
    let cx = &mut Context::from_waker(Waker::noop());
    let mut answer = pin!(service.call(request));
    let answer = answer.as_mut().poll(cx);
    assert!(matches!(answer, Poll::Ready(Ok(_))), "it does not wait");
}

/// Nanoseconds of one request, the making of it not among them.
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

// Of those that are measured in turn; nothing is the first.
const TOWER_HTTP: usize = 2;
const GUARD: usize = 3;
const JOINED: usize = 4;

pub(crate) fn measure(effort: Effort) -> Section {
    let mut bare = service_fn(handler);
    let mut least = ServiceBuilder::new()
        .map_request(|request: Request<Given>| request.map(Counted::new))
        .map_response(|response: Response<Empty<Bytes>>| response.map(Counted::new))
        .service_fn(handler);
    let mut theirs = RequestBodyLimitLayer::new(LIMIT).layer(service_fn(handler));
    let guard = BodyGuardLayer::new(LIMIT as u64);
    let mut guarded = guard.clone().layer(service_fn(handler));
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
            ],
        );
        let counts = [
            allocations(&mut bare, upload, content),
            allocations(&mut least, upload, content),
            allocations(&mut theirs, upload, content),
            allocations(&mut guarded, upload, content),
            allocations(&mut both, upload, content),
        ];
        let names = [
            "nothing",
            "other types",
            "tower-http",
            "guard",
            "guard and delivery",
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
            format!("{name}: guard / tower-http"),
            against(GUARD),
        ));
        let what = format!("{name}: guard and delivery / tower-http");
        targets.push(Target::at_most(with_delivery, what, against(JOINED)));
        let most = if upload.frames == 0 { 0.0 } else { 1.0 };
        let of_guard = (counts[GUARD] - counts[0]) as f64;
        targets.push(Target::at_most(
            most,
            format!("{name}: allocations of the guard"),
            of_guard,
        ));
        let of_delivery = (counts[JOINED] - counts[GUARD]) as f64;
        let what = format!("{name}: allocations of delivery");
        targets.push(Target::at_most(most, what, of_delivery));
    }
    Section {
        title: "An accepted request, in process",
        how: format!(
            "Nanoseconds from the call to the dropped response, median and spread of {} \
             rounds in turn, over a tower service that reads the body; `RequestBodyLimitLayer` \
             is of tower-http 0.7. What is added is the median of the differences within each \
             round.",
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
            "What all have to do is to give a request and a response of some hundred bytes other \
             types: the second row does so, counts the bytes, and looks at nothing. That alone \
             is a third to a half of what tower-http takes, and a look at `Content-Length` \
             most of the rest. The guard also looks whether there are several, asks the body what it \
             promises, and its own answer may have to be written. Two layers change types twice."
                .to_owned(),
            "A body of unknown length may go past the limit, and then the service's answer is \
             replaced. That is the guard's allocation; tower-http has none, and leaves the \
             answer as it is, 400 or 500 with some extractors. Delivery's is the place where a \
             body comes back that the service drops."
                .to_owned(),
            "In one layer a frame is handed on without being moved, in two it is not: 11 to 13 \
             ns for each, of 16 KiB."
                .to_owned(),
        ],
        plots: Vec::new(),
    }
}
