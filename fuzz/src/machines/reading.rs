//! The HTTP/1 drain and the HTTP/2 stream linger, with one body each.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use arbitrary::Arbitrary;
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};
use tower_bodyguard::{
    Drain, Event, Linger, LingerConfig, Observer, StopReason, StreamLinger, delivery::TrackedBody,
};

use crate::{
    Number, SLACK, Span,
    body::{Script, Source},
    millis,
};

#[derive(Arbitrary, Debug)]
pub struct Input {
    is_http2: bool,
    bytes: Number,
    total: Span,
    no_place: bool,
    request: Script,
    /// How long the server holds the response body.
    holds: u16,
}

/// The stall timeout: until a stream's response is sent, the stream is read for no longer. Then it
/// is held unread.
const ANSWER: Duration = Duration::from_secs(300);
const HELD: Duration = Duration::from_millis(20);
/// The idle timeout, which counts from a stream's response on.
const IDLE: Duration = Duration::from_secs(1);
/// The longest frame of the script.
const FRAME: u64 = 1 << 16;

pub(super) async fn drive(input: &Input) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let observer = Observer::new({
        let events = Arc::clone(&events);
        move |event| {
            let event = match event {
                Event::Drained(discarded) => (false, *discarded),
                Event::StreamLingered(discarded) => (true, *discarded),
                other => unreachable!("{other:?}"),
            };
            events.lock().expect("no panic within").push(event);
        }
    });
    let (bytes, total) = (input.bytes.get(), input.total.get());
    let config = LingerConfig::new()
        .drain(Drain::new().max_bytes(bytes).timeout(total))
        .stream_linger(
            StreamLinger::new()
                .max_bytes(bytes)
                .timeout(total)
                .max_streams(usize::from(!input.no_place)),
        )
        .observer(observer);
    let linger = Linger::new(config);
    let (source, seen) = input.request.source();
    let mut request = Request::new(source);
    if input.is_http2 {
        *request.version_mut() = Version::HTTP_2;
    }
    let handler = service_fn(|_: Request<TrackedBody<Source>>| async {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
    });
    let response = linger
        .delivery_layer()
        .layer(handler)
        .oneshot(request)
        .await;
    let begun = Instant::now();
    let holds = millis(input.holds);
    tokio::spawn(async move {
        sleep(holds).await;
        drop(response);
    });

    // If the limits do not end the client, a shutdown does.
    let longest = match input.is_http2 {
        true => holds.min(ANSWER).saturating_add(total.max(HELD)),
        false => total,
    };
    let ends = longest <= Duration::from_secs(600);
    let wait = if ends {
        longest
    } else {
        Duration::from_secs(600)
    };
    sleep(wait + SLACK).await;
    if !ends {
        linger.on(async {}).await;
        sleep(Duration::from_secs(10) + SLACK).await;
    }
    assert_eq!(linger.stats().reading, 0);
    let dropped = seen.told().dropped.expect("it is dropped");
    assert!(dropped <= Instant::now());

    let events = std::mem::take(&mut *events.lock().expect("no panic within"));
    // Without a socket wrapper, delivery reads beyond the drain limit to deliver the response.
    assert!(events.len() <= if input.is_http2 { 1 } else { 2 });
    let Some(&(is_stream, event)) = events.first() else {
        return;
    };
    assert_eq!(is_stream, input.is_http2);
    let read: u64 = events.iter().map(|(_, event)| event.bytes).sum();
    assert_eq!(read, seen.told().bytes);
    assert!(event.lasted <= dropped - begun + SLACK);
    match event.reason {
        StopReason::Completed => assert!(seen.told().is_over || input.request.is_exact()),
        StopReason::Reset => assert!(seen.told().is_over),
        StopReason::MaxBytes => {
            assert!(event.bytes > bytes);
            let most = if is_stream {
                bytes.saturating_mul(2)
            } else {
                bytes
            };
            assert!(event.bytes <= most.saturating_add(FRAME));
        }
        StopReason::IdleTimeout => {
            assert!(is_stream && total > IDLE);
            assert!(event.lasted + SLACK >= IDLE);
        }
        StopReason::Timeout => assert!(event.lasted + SLACK >= total.min(ANSWER)),
        StopReason::Evicted => {
            assert!(is_stream && input.no_place);
            assert!(event.lasted <= holds.min(ANSWER) + HELD + SLACK);
        }
        StopReason::Shutdown => assert!(!ends),
        other => panic!("{other:?}"),
    }
    if is_stream
        && !matches!(
            event.reason,
            StopReason::Completed | StopReason::Reset | StopReason::MaxBytes
        )
    {
        let read_on = if input.no_place { HELD } else { total };
        assert!(!ends || event.lasted <= holds.min(ANSWER) + read_on + SLACK);
    }
}
