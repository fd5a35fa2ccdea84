//! Checks how the limit layer judges a request head, and what delivery then announces about the
//! connection, against a plain version of the rules.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};
use tower_bodyguard::{
    BodyGuardLayer, Counters, DeliveryConfig, DeliveryLayer, Drain, GuardedBody, Limit, Refusal,
    delivery::TrackedBody,
    limit::{HtmlPage, Negotiated, PlainText, ProblemJson, RefusalKind, RefusalResponse},
};

use crate::{
    body::{Hint, Script, Source, Step, Tail},
    millis, paused,
};

#[derive(Arbitrary, Debug)]
pub struct Input {
    limit: Option<Number>,
    status: Status,
    requires_length: bool,
    hides_limit: bool,
    keeps: bool,
    responder: Responder,
    budget: u16,
    method: Method,
    version: Protocol,
    fields: Vec<Field>,
    body: Content,
}

/// A number that is usually small enough to be reached.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Number {
    Small(u16),
    Any(u64),
}

impl Number {
    fn get(self) -> u64 {
        match self {
            Self::Small(number) => number.into(),
            Self::Any(number) => number,
        }
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Status {
    Default,
    BadRequest,
    Unavailable,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Responder {
    Text,
    Json,
    Html,
    Negotiated,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Post,
    Put,
    Get,
    Head,
    Options,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http10,
    Http11,
    Http2,
}

#[derive(Arbitrary, Debug)]
enum Field {
    Length(Length),
    /// Two header lines with the same value.
    Twice(Length),
    Coding(u8),
    Expect(u8),
    Connection(u8),
    ContentType(u8),
    Accept(u8),
    AcceptAny(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Length {
    Number(Number),
    /// The distance from the limit.
    Near(i8),
    Zeros(u8, Number),
    Signed(bool, Number),
    Spaced(Number, u8),
    List(Number, Number),
    Fraction(u8),
    Digits(Vec<Digit>),
    Raw(Vec<u8>),
}

#[derive(Debug)]
struct Digit(u8);

impl<'a> Arbitrary<'a> for Digit {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        u.int_in_range(b'0'..=b'9').map(Self)
    }
}

impl Length {
    fn text(&self, limit: u64) -> Vec<u8> {
        let text = match self {
            Self::Number(number) => number.get().to_string(),
            Self::Near(offset) => limit.saturating_add_signed((*offset).into()).to_string(),
            Self::Zeros(zeros, number) => {
                format!("{}{}", "0".repeat((*zeros).into()), number.get())
            }
            Self::Signed(plus, number) => {
                format!("{}{}", if *plus { '+' } else { '-' }, number.get())
            }
            Self::Spaced(number, place) => match place % 3 {
                0 => format!(" {}", number.get()),
                1 => format!("{}\t", number.get()),
                _ => format!("{} 1", number.get()),
            },
            Self::List(one, other) => format!("{}, {}", one.get(), other.get()),
            Self::Fraction(number) => format!("{number}.0"),
            Self::Digits(digits) => return digits.iter().map(|digit| digit.0).collect(),
            Self::Raw(bytes) => return bytes.clone(),
        };
        text.into_bytes()
    }
}

fn pick<'a>(choices: &[&'a str], choice: u8) -> &'a [u8] {
    choices[usize::from(choice) % choices.len()].as_bytes()
}

impl Field {
    fn lines(&self, limit: u64) -> (HeaderName, Vec<u8>, usize) {
        let (name, value) = match self {
            Self::Length(length) => (header::CONTENT_LENGTH, length.text(limit)),
            Self::Twice(length) => return (header::CONTENT_LENGTH, length.text(limit), 2),
            Self::Coding(choice) => {
                let codings = ["chunked", "gzip, chunked", "identity", "chunked, chunked"];
                (header::TRANSFER_ENCODING, pick(&codings, *choice).into())
            }
            Self::Expect(choice) => {
                let expectations = ["100-continue", "100-Continue", "a, 100-continue", "200-ok"];
                (header::EXPECT, pick(&expectations, *choice).into())
            }
            Self::Connection(choice) => {
                let options = ["close", "keep-alive", "Close, x", "closed"];
                (header::CONNECTION, pick(&options, *choice).into())
            }
            Self::ContentType(choice) => {
                let types = [
                    "text/plain",
                    "application/grpc",
                    "application/grpc+proto",
                    "application/grpc-web",
                    "application/grpc-web-text; a=b",
                    "application/grpcx",
                ];
                (header::CONTENT_TYPE, pick(&types, *choice).into())
            }
            Self::Accept(choice) => {
                let accepts = [
                    "text/html",
                    "application/json;q=0.5, text/html;q=0.1",
                    "*/*",
                    "text/html;q=x, application/problem+json;q=0.001",
                    "application/grpc-web-text",
                ];
                (header::ACCEPT, pick(&accepts, *choice).into())
            }
            Self::AcceptAny(bytes) => (header::ACCEPT, bytes.clone()),
        };
        (name, value, 1)
    }
}

#[derive(Arbitrary, Debug)]
struct Content {
    length: u16,
    frame: u16,
    exact: bool,
}

impl Content {
    fn frame(&self) -> u16 {
        self.frame.max(2048)
    }

    /// Returns how many bytes have arrived with the frame that exceeds the limit.
    fn passing(&self, limit: Option<u64>) -> u64 {
        let (frame, length) = (u64::from(self.frame()), u64::from(self.length));
        let passed = limit.map_or(0, |limit| limit / frame);
        ((passed + 1) * frame).min(length)
    }

    fn script(&self) -> Script {
        let frame = self.frame();
        let mut steps = vec![Step::Data(frame); (self.length / frame).into()];
        if self.length % frame > 0 {
            steps.push(Step::Data(self.length % frame));
        }
        Script {
            steps,
            tail: Tail::End,
            hint: if self.exact { Hint::Exact } else { Hint::None },
        }
    }
}

/// Returns the declared length by RFC 9110 §8.6 and RFC 9112 §6.3. Checks the text first, and then
/// a number wider than any valid one.
fn declared(values: &[Vec<u8>]) -> std::result::Result<Option<u64>, ()> {
    let mut numbers = Vec::new();
    for value in values {
        let text = std::str::from_utf8(value).map_err(drop)?;
        if text.is_empty() || !text.chars().all(|char| char.is_ascii_digit()) {
            return Err(());
        }
        let digits = text.trim_start_matches('0');
        if digits.len() > 20 {
            return Err(());
        }
        let number: u128 = format!("0{digits}").parse().map_err(drop)?;
        numbers.push(u64::try_from(number).map_err(drop)?);
    }
    numbers.dedup();
    match numbers[..] {
        [] => Ok(None),
        [number] => Ok(Some(number)),
        _ => Err(()),
    }
}

/// Returns whether a list contains the word.
fn says(request: &Request<Source>, name: HeaderName, word: &str) -> bool {
    let lines = request.headers().get_all(name);
    let mut words = lines
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    words.any(|found| found.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// The decision that the head alone makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decided {
    Declared(u64),
    BadLength,
    LengthRequired,
    Passes,
}

pub fn run(input: Input) {
    let mut layer = BodyGuardLayer::new(match input.limit {
        Some(limit) => Limit::max(limit.get()),
        None => Limit::unlimited(),
    });
    layer = match input.status {
        Status::Default => layer,
        Status::BadRequest => layer.status(StatusCode::BAD_REQUEST),
        Status::Unavailable => layer.status(StatusCode::SERVICE_UNAVAILABLE),
    };
    if input.requires_length {
        layer = layer.require_content_length();
    }
    if input.hides_limit {
        layer = layer.hide_limit();
    }
    if input.keeps {
        layer = layer.keep_handler_response();
    }
    let counters = Counters::default();
    layer = layer.observer(counters.observer());
    paused(async {
        match input.responder {
            Responder::Text => drive(&input, &counters, layer.refusal_response(PlainText)).await,
            Responder::Json => drive(&input, &counters, layer.refusal_response(ProblemJson)).await,
            Responder::Html => drive(&input, &counters, layer.refusal_response(HtmlPage)).await,
            Responder::Negotiated => {
                drive(&input, &counters, layer.refusal_response(Negotiated)).await
            }
        }
    });
}

async fn drive<R>(input: &Input, counters: &Counters, guard: BodyGuardLayer<R>)
where
    R: RefusalResponse<Full<Bytes>> + Clone,
{
    let limit = input.limit.map(Number::get);
    let (source, seen) = input.body.script().source();
    let mut request = Request::new(source);
    *request.method_mut() = match input.method {
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Get => http::Method::GET,
        Method::Head => http::Method::HEAD,
        Method::Options => http::Method::OPTIONS,
    };
    *request.version_mut() = match input.version {
        Protocol::Http10 => Version::HTTP_10,
        Protocol::Http11 => Version::HTTP_11,
        Protocol::Http2 => Version::HTTP_2,
    };
    for field in &input.fields {
        let (name, value, times) = field.lines(limit.unwrap_or(0));
        let Ok(value) = HeaderValue::from_bytes(&value) else {
            continue;
        };
        for _ in 0..times {
            request.headers_mut().append(name.clone(), value.clone());
        }
    }

    // The expected outcome.
    let lengths = request.headers().get_all(header::CONTENT_LENGTH);
    let lengths: Vec<_> = lengths
        .iter()
        .map(|value| value.as_bytes().to_vec())
        .collect();
    let (bodiless, exact) = (request.body().is_end_stream(), input.body.exact);
    let decided = match declared(&lengths) {
        Err(()) => Decided::BadLength,
        Ok(Some(length)) if limit.is_some_and(|limit| length > limit) => Decided::Declared(length),
        Ok(None) if input.requires_length && !bodiless && !exact => Decided::LengthRequired,
        Ok(_) => Decided::Passes,
    };
    let length = u64::from(input.body.length);
    let over = decided == Decided::Passes && limit.is_some_and(|limit| length > limit);
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let kind = content_type.map_or(&b""[..], HeaderValue::as_bytes);
    let kind = kind.split(|byte| b"+; ,".contains(byte)).next();
    let grpc = match kind.unwrap_or(b"") {
        b"application/grpc" => input.version == Protocol::Http2,
        kind => [&b"application/grpc-web"[..], b"application/grpc-web-text"].contains(&kind),
    };
    let persistent = match input.version {
        Protocol::Http10 => says(&request, header::CONNECTION, "keep-alive"),
        _ => !says(&request, header::CONNECTION, "close"),
    };
    let waits = says(&request, header::EXPECT, "100-continue");

    let calls = Arc::new(AtomicUsize::new(0));
    let called = Arc::clone(&calls);
    let handler = service_fn(move |request: Request<GuardedBody<TrackedBody<Source>>>| {
        called.fetch_add(1, Ordering::Relaxed);
        async move {
            let read = request.into_body().collect().await;
            let length = read.map_or(u64::MAX, |body| body.to_bytes().len() as u64);
            let mut response = Response::new(Full::new(Bytes::from("read")));
            response.extensions_mut().insert(length);
            Ok::<_, Infallible>(response)
        }
    });
    let delivery = DeliveryLayer::new(
        DeliveryConfig::new().drain(Drain::new().max_bytes(u64::from(input.budget))),
    );
    let service = delivery.layer(guard.layer(handler));
    let response = service.oneshot(request).await.expect("no error was made");
    let polls = seen.told().polls;

    // Checks whether the handler was called, and which part responded.
    let passes = decided == Decided::Passes;
    assert_eq!(calls.load(Ordering::Relaxed), usize::from(passes));
    let refusal = response.extensions().get::<Refusal>();
    assert_eq!(refusal.is_some(), !passes || over);
    let expected = refusal.map(|refusal| match (refusal.kind(), decided) {
        (RefusalKind::Declared { length }, Decided::Declared(declared)) => {
            assert_eq!(length, declared);
            (status_of(input.status), 8)
        }
        (RefusalKind::Streamed { received }, Decided::Passes) => {
            assert!(limit.is_some_and(|limit| received > limit) && received <= length);
            (status_of(input.status), 8)
        }
        (RefusalKind::BadLength, Decided::BadLength) => (400, 3),
        (RefusalKind::LengthRequired, Decided::LengthRequired) => (411, 3),
        (kind, decided) => panic!("{kind:?} for {decided:?}"),
    });
    let by_handler = response.extensions().get::<u64>().copied();
    match expected {
        Some(_) if over && input.keeps => {
            assert_eq!(
                (response.status().as_u16(), by_handler),
                (200, Some(u64::MAX))
            );
        }
        Some((_, code)) if grpc => {
            assert_eq!((response.status().as_u16(), by_handler), (200, None));
            assert_eq!(response.headers()["grpc-status"], code.to_string().as_str());
        }
        Some((status, _)) => {
            assert_eq!((response.status().as_u16(), by_handler), (status, None));
        }
        // The handler responded, and has read the whole body.
        None => assert_eq!(by_handler, Some(length)),
    }
    let refused = counters.snapshot().refused;
    let counted =
        refused.declared + refused.streamed + refused.bad_length + refused.length_required;
    assert_eq!(counted, u64::from(expected.is_some()));

    // Checks what is announced about the connection.
    let owed = length - if over { input.body.passing(limit) } else { 0 };
    let is_whole = bodiless || (exact && owed == 0);
    let is_owed = (!passes || over) && !is_whole;
    let keeps = match () {
        () if !is_owed || input.version == Protocol::Http2 => true,
        // The whole body is available, so delivery takes it without a task, even above the drain
        // limit.
        () => persistent && !(waits && !passes),
    };
    let closes = response.headers().get_all(header::CONNECTION);
    assert_eq!(closes.iter().count(), usize::from(!keeps), "{decided:?}");
    if is_owed && keeps && input.version != Protocol::Http2 {
        assert_eq!(
            seen.told().bytes,
            length,
            "the remaining body was available"
        );
    }
    if waits && !passes && input.version != Protocol::Http2 {
        assert_eq!(polls, 0, "the read made a waiting client send its body");
    }

    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/problem+json");
    let said = response.headers().get(header::CONTENT_LENGTH).cloned();
    let body = response.into_body().collect().await;
    let body = body.map(|body| body.to_bytes()).expect("it is short");
    let by_us = expected.is_some() && !(over && input.keeps);
    if by_us && input.method == Method::Head {
        assert!(body.is_empty());
    } else if let (true, Some(said)) = (by_us, said) {
        assert_eq!(said, body.len().to_string().as_str());
        if is_problem {
            let problem: serde_json::Value = serde_json::from_slice(&body).expect("it is JSON");
            assert_eq!(problem["status"], expected.map_or(0, |(status, _)| status));
            let tells =
                !input.hides_limit && matches!(decided, Decided::Declared(_) | Decided::Passes);
            assert_eq!(problem["limit"].as_u64(), limit.filter(|_| tells));
        }
    }

    // Nothing is left behind.
    sleep(millis(60_000u64)).await;
    assert!(seen.told().dropped.is_some());
}

fn status_of(status: Status) -> u16 {
    match status {
        Status::Default => 413,
        Status::BadRequest => 400,
        Status::Unavailable => 503,
    }
}
