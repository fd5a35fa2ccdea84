//! The limit layer and delivery around a handler with arbitrary behaviour, under an arbitrary
//! server.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
    time::Duration,
};

use arbitrary::Arbitrary;
use bytes::Bytes;
use futures_util::future::join;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame};
use http_body_util::LengthLimitError;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::{Instant, Sleep, sleep, timeout},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_bodyguard::{
    BodyGuardLayer, BoxError, Counters, Drain, GuardedBody, Limit, Linger, LingerConfig, Refusal,
    StreamLinger,
    delivery::{DeliveredBody, TrackedBody},
    limit::{BodyTooSlow, ResponseAborted, ResponseBody},
};

use crate::{
    SLACK,
    body::{self, Script, Source, Step},
    millis, paused,
};

#[derive(Arbitrary, Debug)]
pub struct Input {
    limit: Option<u16>,
    keeps: bool,
    /// Bytes per second, and tenths of a second.
    rate: Option<(u16, u8)>,
    is_http2: bool,
    expects_continue: bool,
    /// With a socket that is stalled for this long.
    joined: Option<u16>,
    drain: (u16, u16),
    stream_linger: (u16, u16, u8),
    request: Script,
    handler: Handler,
    server: Server,
}

#[derive(Arbitrary, Clone, Debug)]
struct Handler {
    before: Vec<Act>,
    ending: Ending,
    rest: Rest,
    response: Vec<Part>,
}

#[derive(Arbitrary, Clone, Debug)]
enum Act {
    Read(u8),
    Sleep(u16),
    Drop,
}

#[derive(Arbitrary, Clone, Debug)]
enum Ending {
    Answer,
    TooLarge,
    Fail,
    Panic,
}

/// Which part holds the body when the response is ready.
#[derive(Arbitrary, Clone, Debug)]
enum Rest {
    Nobody,
    /// A task that outlives the response.
    Task(Vec<Act>),
    /// The response body, which forwards it.
    Response,
}

#[derive(Arbitrary, Clone, Debug)]
enum Part {
    Data(u8),
    Wait(u16),
    Fail,
}

#[derive(Arbitrary, Debug)]
struct Server {
    /// How long it waits for the response.
    patience: u16,
    /// How many frames of it are taken, with a pause between them.
    frames: u8,
    pause: u8,
}

/// Observations of the handler's side.
#[derive(Clone, Debug, Default)]
struct World(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    asked: bool,
    over: Option<Instant>,
    is_slow: bool,
    let_go: Option<Instant>,
    is_released_before_response: bool,
}

impl World {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().expect("no panic within")
    }
}

type Guarded = GuardedBody<TrackedBody<Source>>;

/// Reads the body that the limit layer passes on, and checks it against the script.
struct Reader {
    body: Option<Guarded>,
    steps: VecDeque<Step>,
    tail: body::Tail,
    limit: u64,
    grace: Option<Duration>,
    begun: Instant,
    got: u64,
    /// Whether the body reported its end.
    is_end_stream: bool,
    has_ended: bool,
    /// Each size hint, with the number of bytes read before.
    hints: Vec<(u64, u64, Option<u64>)>,
    world: World,
}

impl Reader {
    fn new(body: Guarded, input: &Input, bodiless: bool, world: World) -> Self {
        let (steps, tail) = match bodiless {
            true => (VecDeque::new(), body::Tail::End),
            false => input.request.played(),
        };
        Self {
            body: Some(body),
            steps,
            tail,
            limit: input.limit.map_or(u64::MAX, u64::from),
            grace: input.grace(),
            begun: Instant::now(),
            got: 0,
            is_end_stream: false,
            has_ended: false,
            hints: Vec::new(),
            world,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let hint = body.size_hint();
        self.hints.push((self.got, hint.lower(), hint.upper()));
        self.is_end_stream |= body.is_end_stream();
        self.world.noted().asked = true;
        let frame = ready!(Pin::new(body).poll_frame(cx));
        Poll::Ready(self.check(frame))
    }

    fn check(&mut self, frame: Option<Result<Frame<Bytes>, BoxError>>) -> Option<Frame<Bytes>> {
        if self.has_ended {
            assert!(frame.is_none(), "a frame after the end");
            return None;
        }
        assert!(
            !self.is_end_stream || frame.is_none(),
            "the body had reported its end"
        );
        let slow = |error: &BoxError| error.is::<BodyTooSlow>();
        if matches!(&frame, Some(Err(error)) if slow(error)) {
            let grace = self.grace.expect("there is a rate to keep");
            assert!(self.begun.elapsed() + SLACK >= grace);
            self.went_over(true);
            return None;
        }
        match (self.expected(), frame) {
            (Some(Step::Data(length)), Some(Ok(frame))) => {
                let data = frame.data_ref().expect("data, and not trailers");
                assert_eq!(data.len() as u64, u64::from(length));
                self.got += u64::from(length);
                assert!(self.got <= self.limit);
                return Some(frame);
            }
            (Some(Step::Trailers), Some(Ok(frame))) => {
                assert!(frame.is_trailers());
                return Some(frame);
            }
            (Some(Step::Fail), Some(Err(error))) => assert!(error.is::<io::Error>()),
            (Some(Step::Small(_)), Some(Err(error))) => {
                assert!(error.is::<LengthLimitError>());
                self.went_over(false);
            }
            (None, None) => {
                for &(got, lower, upper) in &self.hints {
                    assert!(lower <= self.got - got, "less came than the hint promised");
                    assert!(upper.is_none_or(|upper| self.got - got <= upper));
                }
            }
            (expected, frame) => panic!("{frame:?} for {expected:?}"),
        }
        self.has_ended = true;
        None
    }

    fn went_over(&mut self, is_slow: bool) {
        self.has_ended = true;
        let mut noted = self.world.noted();
        noted.over = Some(Instant::now());
        noted.is_slow = is_slow;
    }

    /// Returns the next step that yields a frame. The step is `Small` if it exceeds the limit.
    fn expected(&mut self) -> Option<Step> {
        let step = loop {
            match self.steps.pop_front() {
                Some(Step::Wait(_) | Step::Yield) => {}
                Some(Step::Small(length)) => break Step::Data(length.into()),
                Some(step) => break step,
                None => match self.tail {
                    body::Tail::Drip { length, .. } => break Step::Data(length.into()),
                    _ => return None,
                },
            }
        };
        let is_over = self.got + step.length() > self.limit;
        Some(if is_over { Step::Small(0) } else { step })
    }

    async fn act(&mut self, acts: &[Act]) {
        for act in acts.iter().take(8) {
            match act {
                Act::Read(frames) => {
                    for _ in 0..*frames {
                        let read = poll_fn(|cx| self.poll_read(cx));
                        if timeout(Duration::from_secs(5), read).await.is_err() {
                            break;
                        }
                    }
                }
                Act::Sleep(pause) => sleep(millis(*pause)).await,
                Act::Drop => self.body = None,
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.body = None;
        if let Ok(mut noted) = self.world.0.lock() {
            noted.let_go = Some(Instant::now());
        }
    }
}

/// The body of the handler's response.
struct Answer {
    parts: VecDeque<Part>,
    timer: Option<Pin<Box<Sleep>>>,
    request: Option<Reader>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(request) = &mut self.request {
            if let Some(frame) = ready!(request.poll_read(cx)) {
                return Poll::Ready(Some(Ok(frame)));
            }
        }
        loop {
            if let Some(timer) = &mut self.timer {
                ready!(timer.as_mut().poll(cx));
                self.timer = None;
            }
            match self.parts.pop_front() {
                None => return Poll::Ready(None),
                Some(Part::Wait(pause)) => self.timer = Some(Box::pin(sleep(millis(pause)))),
                Some(Part::Fail) => return Poll::Ready(Some(Err(io::ErrorKind::Other.into()))),
                Some(Part::Data(length)) => {
                    return Poll::Ready(Some(Ok(Frame::data(body::bytes(length.into())))));
                }
            }
        }
    }
}

impl Handler {
    async fn respond(self, mut reader: Reader) -> Result<Response<Answer>, BoxError> {
        reader.act(&self.before).await;
        let mut body = Answer {
            parts: self.response.iter().take(16).cloned().collect(),
            timer: None,
            request: None,
        };
        match self.rest {
            Rest::Nobody => drop(reader),
            Rest::Task(acts) => {
                tokio::spawn(async move { reader.act(&acts).await });
            }
            Rest::Response => body.request = Some(reader),
        }
        let mut response = Response::new(body);
        match self.ending {
            Ending::Answer => {}
            Ending::TooLarge => *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE,
            Ending::Fail => return Err("the handler fails".into()),
            // Skips the panic hook, which belongs to the fuzzer.
            Ending::Panic => std::panic::resume_unwind(Box::new("the handler panics")),
        }
        Ok(response)
    }
}

impl Input {
    fn grace(&self) -> Option<Duration> {
        let rate = self.rate.filter(|(rate, _)| *rate > 0);
        rate.map(|(_, grace)| millis(100u64) * grace.into())
    }

    fn linger(&self) -> Linger {
        let (bytes, total) = self.drain;
        let drain = Drain::new()
            .max_bytes(u64::from(bytes))
            .timeout(millis(total));
        let (bytes, total, at_once) = self.stream_linger;
        let streams = StreamLinger::new()
            .max_bytes(u64::from(bytes))
            .timeout(millis(total))
            .max_streams((at_once % 4).into());
        Linger::new(LingerConfig::new().drain(drain).stream_linger(streams))
    }

    fn guard(&self, counters: &Counters) -> BodyGuardLayer {
        let limit = self
            .limit
            .map_or(Limit::unlimited(), |limit| Limit::max(limit.into()));
        let mut guard = BodyGuardLayer::new(limit).observer(counters.observer());
        if self.keeps {
            guard = guard.keep_handler_response();
        }
        if let Some((rate, grace)) = self.rate {
            guard = guard.min_rate(u64::from(rate), millis(100u64) * grace.into());
        }
        guard
    }
}

/// The refusal as the server observed it.
#[derive(Default)]
struct Told {
    refused: bool,
    broken_off: bool,
}

pub fn run(input: Input) {
    paused(drive(Arc::new(input)));
}

async fn drive(input: Arc<Input>) {
    let begun = Instant::now();
    let (counters, linger, world) = (Counters::default(), input.linger(), World::default());
    let (source, seen) = input.request.source();
    let bodiless = source.is_end_stream();
    let mut request = Request::new(source);
    if input.is_http2 {
        *request.version_mut() = Version::HTTP_2;
    }
    if input.expects_continue {
        let value = HeaderValue::from_static("100-continue");
        request.headers_mut().insert(header::EXPECT, value);
    }
    let handler = {
        let (input, world) = (Arc::clone(&input), world.clone());
        service_fn(move |request: Request<Guarded>| {
            let reader = Reader::new(request.into_body(), &input, bodiless, world.clone());
            input.handler.clone().respond(reader)
        })
    };
    let guard = input.guard(&counters).layer(handler);
    let (mut near, mut far) = (None, None);
    let service = match input.joined {
        None => linger.delivery_layer().layer(guard),
        Some(_) => {
            let (one, other) = duplex(16);
            let (io, service) = linger.wrap(one, guard);
            (near, far) = (Some(io), Some(other));
            service
        }
    };
    let socket = tokio::spawn({
        let stall = millis(input.joined.unwrap_or(0));
        async move {
            let (Some(mut near), Some(mut far)) = (near, far) else {
                return;
            };
            let writing =
                async move { timeout(Duration::from_secs(100), near.write_all(&[b'.'; 20])).await };
            let reading = async {
                sleep(stall).await;
                far.read_exact(&mut [0; 20]).await
            };
            let _ = join(writing, reading).await;
        }
    });

    let server = tokio::spawn({
        let (input, world) = (Arc::clone(&input), world.clone());
        async move {
            let patience = millis(input.server.patience);
            match timeout(patience, service.oneshot(request)).await {
                Ok(response) => {
                    let is_released = world.noted().let_go.is_some();
                    world.noted().is_released_before_response = is_released;
                    serve(&input, &world, response).await
                }
                Err(_) => Told::default(),
            }
        }
    });
    let result = server.await;
    let responded = Instant::now();
    // The handler's panic passes through. Our code does not panic.
    let panics = matches!(input.handler.ending, Ending::Panic);
    let told = match result {
        Ok(told) => told,
        Err(error) => {
            assert!(panics && error.is_panic(), "{error}");
            Told::default()
        }
    };
    let refused = counters.snapshot().refused;
    let counted = refused.streamed + refused.too_slow + refused.idle_timeout + refused.deadline;
    assert!(counted <= 1);
    assert!(counted >= u64::from(told.refused || told.broken_off));

    // Nothing is left behind, and everything is dropped in time.
    sleep(Duration::from_secs(7200)).await;
    socket.await.expect("it only waits");
    let stats = linger.stats();
    assert_eq!((stats.reading, stats.lingering()), (0, 0));
    let let_go = world.noted().let_go.unwrap_or(responded).max(responded);
    let bounds = millis(input.drain.1) + millis(input.stream_linger.1) + Duration::from_secs(300);
    let dropped = seen.told().dropped.expect("the body is dropped");
    // If the response waits for a silent client, the drain waits, too, and leaves time for a flush.
    let flush = millis(5u8);
    let stalled = begun + millis(input.joined.unwrap_or(0)) + flush;
    let latest = (let_go + bounds + flush).max(stalled) + SLACK;
    assert!(dropped <= latest, "held {:?} too long", dropped - latest);
    // Once the response is ready, no read may ask the client to send its body.
    let noted = world.noted();
    let is_unasked = !noted.asked && noted.is_released_before_response;
    if input.expects_continue && !input.is_http2 && is_unasked {
        assert_eq!(
            seen.told().polls,
            0,
            "the read made a waiting client send its body"
        );
    }
}

type Delivered = DeliveredBody<ResponseBody<Answer>>;

async fn serve(
    input: &Input,
    world: &World,
    result: Result<Response<Delivered>, BoxError>,
) -> Told {
    let mut told = Told::default();
    let over = world.noted().over.is_some();
    let is_slow = world.noted().is_slow;
    // A handler keeps its response only if the body is over the limit, not if it is too slow.
    let is_replaced = over && (!input.keeps || is_slow);
    let fails = matches!(input.handler.ending, Ending::Fail);
    let Ok(response) = result else {
        assert!(fails && !is_replaced, "the limit layer responds");
        return told;
    };
    let refusal = response.extensions().get::<Refusal>();
    assert_eq!(
        refusal.is_some(),
        over,
        "a refusal for each overrun before the response"
    );
    told.refused = refusal.is_some();
    let status = match (is_replaced, is_slow, &input.handler.ending) {
        (true, true, _) => StatusCode::REQUEST_TIMEOUT,
        (true, false, _) | (_, _, Ending::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::OK,
    };
    assert_eq!(response.status(), status);

    let mut body = response.into_body();
    let by_handler = !is_replaced;
    for _ in 0..input.server.frames {
        let asked = Instant::now();
        let next = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let Ok(frame) = timeout(Duration::from_secs(60), next).await else {
            break;
        };
        let over = world.noted().over.filter(|_| by_handler && !input.keeps);
        if let Some(over) = over {
            assert!(
                Instant::now() <= over.max(asked) + SLACK,
                "the reader was not woken"
            );
            let error = frame
                .expect("no end in silence")
                .expect_err("a frame past it");
            assert!(error.is::<ResponseAborted>());
            told.broken_off = true;
            let next = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            assert!(next.is_none(), "a frame after the end");
            break;
        }
        match frame {
            Some(Ok(_)) => sleep(millis(input.server.pause)).await,
            Some(Err(error)) => {
                assert!(by_handler && error.is::<io::Error>());
                break;
            }
            None => break,
        }
    }
    told
}
