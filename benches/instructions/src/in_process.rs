//! Requests to tower services, without a server.

use std::{
    convert::Infallible,
    future::poll_fn,
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Empty;
use tower::{Layer, Service, service_fn};
use tower_bodyguard::{BodyBudget, BodyGuardLayer, DeliveryLayer};
use tower_http::limit::RequestBodyLimitLayer;

const LIMIT: u64 = 4 << 20;

const NOTHING: &str = "nothing";
const TOWER_HTTP: &str = "tower-http";
const LIMIT_LAYER: &str = "limit layer";
const WITH_BUDGET: &str = "limit layer with a budget";
const WITH_DELIVERY: &str = "limit layer and delivery";

/// The names of the layers around the service.
pub(crate) const SERVERS: &[&str] = &[NOTHING, TOWER_HTTP, LIMIT_LAYER, WITH_BUDGET, WITH_DELIVERY];

/// Those of them that this crate is in.
pub(crate) const OURS: &[&str] = &[LIMIT_LAYER, WITH_BUDGET, WITH_DELIVERY];

/// A request, by its body.
#[derive(Clone, Copy)]
pub(crate) struct Upload {
    pub(crate) name: &'static str,
    frames: usize,
    /// The length of each.
    frame: usize,
    chunked: bool,
}

impl Upload {
    const fn new(name: &'static str, frames: usize, frame: usize) -> Self {
        Self {
            name,
            frames,
            frame,
            chunked: false,
        }
    }

    const fn chunked(self) -> Self {
        Self {
            chunked: true,
            ..self
        }
    }

    fn request(self, content: &Bytes) -> Request<Given> {
        let mut request = Request::post("/upload").header("host", "cost");
        if !self.chunked {
            request = request.header("content-length", self.frames * self.frame);
        }
        let given = Given {
            upload: self,
            left: self.frames,
            content: content.clone(),
        };
        request.body(given).expect("the headers are valid")
    }
}

pub(crate) const REQUESTS: &[Upload] = &[
    Upload::new("no body", 0, 0),
    Upload::new("1 KiB", 1, 1 << 10),
    Upload::new("64 frames of 16 KiB", 64, 16 << 10),
    Upload::new("4 frames of 16 KiB, chunked", 4, 16 << 10).chunked(),
];

/// A body as a server would provide it. It costs almost nothing itself.
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

/// Reads the whole body.
async fn handler<B: Body>(request: Request<B>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut body = pin!(request.into_body());
    while let Some(Ok(frame)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        black_box(frame.is_data());
    }
    Ok(Response::new(Empty::new()))
}

/// Makes so many requests, one after another.
fn serve<S, B>(mut service: S, upload: Upload, times: usize)
where
    S: Service<Request<Given>, Response = Response<B>>,
{
    let content = Bytes::from(vec![0; upload.frame]);
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..times {
        let response = pin!(service.call(black_box(upload.request(&content))));
        assert!(matches!(response.poll(cx), Poll::Ready(Ok(_))), "at once");
    }
}

pub(crate) fn run(request: &str, server: &str, times: usize) {
    let mut uploads = REQUESTS.iter().copied();
    let upload = uploads.find(|upload| upload.name == request);
    let upload = upload.expect("the request is known");
    let service = service_fn(handler);
    let guard = BodyGuardLayer::new(LIMIT);
    match server {
        NOTHING => serve(service, upload, times),
        TOWER_HTTP => {
            let limit = usize::try_from(LIMIT).expect("it fits");
            let service = RequestBodyLimitLayer::new(limit).layer(service_fn(handler));
            serve(service, upload, times);
        }
        LIMIT_LAYER => serve(guard.layer(service_fn(handler)), upload, times),
        WITH_BUDGET => {
            let guard = guard.budget(&BodyBudget::max_bytes(1 << 30));
            serve(guard.layer(service_fn(handler)), upload, times);
        }
        WITH_DELIVERY => {
            let guarded = guard.layer(service_fn(handler));
            serve(DeliveryLayer::default().layer(guarded), upload, times);
        }
        _ => panic!("there is no server {server}"),
    }
}
