//! Lingering connections, and the limits of each.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use arbitrary::Arbitrary;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};
use tower::{ServiceExt, service_fn};
use tower_bodyguard::{
    Discarded, Event, Linger, LingerConfig, LingerIo, Observer, StopReason, delivery::TrackedBody,
};

use crate::{
    Number, SLACK, Span, millis,
    socket::{Client, Log, Logged, Socket},
};

#[derive(Arbitrary, Debug)]
pub struct Input {
    idle: Span,
    total: Span,
    bytes: Option<Number>,
    least: Option<(Number, Span)>,
    good: Option<(Number, Span)>,
    at_once: Places,
    connections: Vec<Connection>,
    /// The grace period of the shutdown, if the limits allow very long lingers.
    shutdown: u16,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Places {
    Many,
    Few(u8),
}

#[derive(Arbitrary, Clone, Debug)]
struct Connection {
    after: u16,
    client: Client,
    /// With delivery, whose response announces the close.
    closes: bool,
    server: Vec<Do>,
}

/// Calls of a server, as hyper makes them and in any other order.
#[derive(Arbitrary, Clone, Debug)]
enum Do {
    Read,
    Write { is_http10: bool },
    Shutdown,
    IntoInner,
}

/// The events of lingering connections.
type Events = Arc<Mutex<Vec<Discarded>>>;

struct Settings {
    idle: Duration,
    total: Duration,
    bytes: Option<u64>,
    least: Option<(u64, Duration)>,
    good: Option<(u64, Duration)>,
    at_once: Option<usize>,
}

impl Settings {
    fn new(input: &Input) -> Self {
        let rate = |(rate, span): (Number, Span)| (rate.get(), span.get());
        Self {
            idle: input.idle.get(),
            total: input.total.get(),
            bytes: input.bytes.map(Number::get),
            least: input.least.map(rate),
            // The default applies if nothing else is set.
            good: Some(
                input
                    .good
                    .map_or((128 << 10, Duration::from_secs(600)), rate),
            ),
            at_once: match input.at_once {
                Places::Many => None,
                Places::Few(places) => Some((places % 4).into()),
            },
        }
    }

    fn linger(&self, events: &Events) -> Linger {
        let mut config = LingerConfig::new()
            .idle_timeout(self.idle)
            .timeout(self.total)
            .max_bytes(self.bytes)
            .max_connections(self.at_once);
        if let Some((rate, grace)) = self.least {
            config = config.min_rate(rate, grace);
        }
        if let Some((rate, total)) = self.good {
            config = config.extended_timeout(rate, total);
        }
        let events = Arc::clone(events);
        Linger::new(config.observer(Observer::new(move |event| {
            let Event::Lingered(discarded) = event else {
                unreachable!("{event:?}");
            };
            events.lock().expect("no panic within").push(*discarded);
        })))
    }

    fn longest(&self) -> Duration {
        self.good
            .map_or(self.total, |(_, total)| total.max(self.total))
    }
}

/// Returns for how long after `since` the received bytes keep the rate. Bytes sent ahead count for
/// at most `ahead`.
fn kept(came: &[(Instant, u64)], since: Instant, rate: u64, ahead: Duration) -> Duration {
    let mut nanoseconds = 0;
    for (at, bytes) in came {
        let most = (*at - since).saturating_add(ahead).as_nanos();
        let most = most.saturating_mul(rate.into());
        nanoseconds = most.min(nanoseconds + u128::from(*bytes) * 1_000_000_000);
    }
    let nanoseconds = nanoseconds.checked_div(rate.into()).unwrap_or(u128::MAX);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// The longest time that bytes sent ahead count for.
const AHEAD: Duration = Duration::from_secs(10);

/// The state of a connection when the server drops it.
struct LetGo {
    log: Log,
    at: Instant,
    /// How many reads happened before that.
    before: usize,
    discarded: u64,
    /// No linger may follow: the client had left, or a limit was reached before.
    plainly: bool,
    was_shut: bool,
}

pub(super) async fn drive(input: Input) {
    let events = Events::default();
    let settings = Settings::new(&input);
    let linger = settings.linger(&events);
    let connections = input.connections.iter().take(4).cloned().map(|connection| {
        let (linger, events) = (linger.clone(), Arc::clone(&events));
        tokio::spawn(async move { connection.serve(&linger, &events).await })
    });
    let connections: Vec<_> = connections.collect();
    let mut let_go = Vec::new();
    for connection in connections {
        let_go.push(connection.await.expect("no panic"));
    }

    let longest = settings.longest();
    let ends = longest <= Duration::from_secs(600);
    let bound = if ends {
        longest + SLACK
    } else {
        millis(input.shutdown)
    };
    let asked = Instant::now();
    linger.shutdown(bound).await;
    // Each of two last turns may take a second.
    assert!(asked.elapsed() <= bound + Duration::from_secs(2) + SLACK);
    let stats = linger.stats();
    assert_eq!((stats.lingering(), stats.reading), (0, 0));
    let events = std::mem::take(&mut *events.lock().expect("no panic within"));
    assert_eq!(stats.started, events.len() as u64);
    let count = |is: fn(&Discarded) -> bool| events.iter().filter(|event| is(event)).count() as u64;
    assert_eq!(
        stats.delivered,
        count(|event| event.reason == StopReason::Completed)
    );
    assert_eq!(
        stats.cut,
        count(|event| event.reason != StopReason::Completed)
    );
    let bytes: u64 = events.iter().map(|event| event.bytes).sum();
    assert_eq!(stats.discarded_bytes, bytes);

    let alone = let_go.len() == 1;
    for connection in &let_go {
        // Only a single connection has a single event, which then belongs to it.
        let event = events.last().filter(|_| alone && events.len() == 1);
        connection.check(&settings, event, ends);
    }
    // Dormant connections are evicted only while more than half of the slots are taken.
    if settings
        .at_once
        .is_none_or(|places| places / 2 >= let_go.len())
    {
        assert!(
            events
                .iter()
                .all(|event| event.reason != StopReason::Evicted)
        );
    }
    if ends {
        assert!(
            events
                .iter()
                .all(|event| event.reason != StopReason::Shutdown)
        );
    }
}

impl Connection {
    async fn serve(self, linger: &Linger, events: &Events) -> LetGo {
        sleep(millis(self.after)).await;
        let log = Log::default();
        let socket = self.client.socket(log.clone());
        let mut io = match self.closes {
            true => closing(socket, linger).await,
            false => LingerIo::new(socket, linger),
        };
        let (mut discarded, mut shut, mut framed, mut cut) = (0, false, None, false);
        for act in self.server.iter().take(8) {
            let before = log.logged().came.len();
            let lingered = events.lock().expect("no panic within").len();
            match act {
                Do::Read => {
                    let mut buf = [0; 1000];
                    let read = timeout(Duration::from_secs(5), io.read(&mut buf)).await;
                    let came = matches!(read, Ok(Ok(1..)));
                    assert!(!came || discarded == 0, "a part of it is missing");
                }
                Do::Write { is_http10 } => {
                    let words: &[u8] = if *is_http10 {
                        b"HTTP/1.0 200"
                    } else {
                        b"HTTP/1.1 200"
                    };
                    let write = timeout(Duration::from_secs(40), io.write(words)).await;
                    if let Ok(Ok(_)) = write {
                        framed = Some(!is_http10);
                    }
                    if let Ok(Err(error)) = write {
                        cut |= error.kind() == std::io::ErrorKind::TimedOut;
                    }
                    let logged = log.logged();
                    discarded += sum(&logged.came[before..]);
                    let events = events.lock().expect("no panic within");
                    // It may include an event of another connection.
                    assert!(!cut || events.len() > lingered || shut || discarded > 0);
                }
                Do::Shutdown => {
                    let closed = timeout(Duration::from_secs(5), io.shutdown()).await;
                    shut |= matches!(closed, Ok(Ok(())));
                }
                Do::IntoInner => {
                    let socket = io.into_inner();
                    return LetGo::new(log, discarded, true, socket);
                }
            }
        }
        let gone = log.logged().has_ended;
        let plainly = gone || cut || (!shut && framed != Some(true));
        LetGo::new(log, discarded, plainly, io)
    }
}

/// Returns a connection whose response announces the close.
async fn closing(socket: Socket, linger: &Linger) -> LingerIo<Socket> {
    static LARGE: [u8; 2 << 20] = [0; 2 << 20];
    let handler = service_fn(|_: Request<TrackedBody<Full<Bytes>>>| async {
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let (io, service) = linger.wrap(socket, handler);
    let request = Request::new(Full::new(Bytes::from_static(&LARGE)));
    let response = service.oneshot(request).await.expect("it has a response");
    assert_eq!(response.headers()["connection"], "close");
    io
}

fn sum(came: &[(Instant, u64)]) -> u64 {
    came.iter().map(|(_, bytes)| bytes).sum()
}

impl LetGo {
    fn new<T>(log: Log, discarded: u64, plainly: bool, io: T) -> Self {
        let before = log.logged().came.len();
        let was_shut = log.logged().shut;
        let at = Instant::now();
        drop(io);
        Self {
            log,
            at,
            before,
            discarded,
            plainly,
            was_shut,
        }
    }

    fn check(&self, settings: &Settings, event: Option<&Discarded>, ends: bool) {
        let logged = self.log.logged();
        let dropped = logged.dropped.expect("it is dropped");
        let lasted = dropped - self.at;
        if self.plainly {
            assert_eq!((lasted, logged.shut), (Duration::ZERO, self.was_shut));
            return;
        }
        let came = &logged.came[self.before..];
        let heard = came.last().map_or(self.at, |(at, _)| *at);
        let received = sum(came);

        // It does not linger for longer than the limits.
        let slow = lasted.saturating_sub(SLACK);
        assert!(slow <= settings.longest());
        assert!(dropped - heard <= settings.idle.saturating_add(SLACK));
        let all = self.discarded + received;
        if let (Some(most), Some((_, last))) = (settings.bytes, came.last()) {
            assert!(all - last <= most);
        }
        let kept = |rate, ahead| kept(came, self.at, rate, ahead);
        if slow > settings.total {
            let good = settings.good;
            let good = good.is_some_and(|(rate, _)| kept(rate, AHEAD) >= slow);
            assert!(good, "beyond the total");
        }
        let least = settings.least.map(|(rate, grace)| {
            let ahead = grace.clamp(Duration::from_secs(1), AHEAD);
            (grace, kept(rate, ahead))
        });
        if let Some((grace, kept)) = least {
            assert!(slow <= grace || kept >= slow, "below the rate");
        }

        // It does not linger for less, either.
        let Some(event) = event else {
            return;
        };
        assert_eq!(event.bytes, all);
        let is_over = match event.reason {
            StopReason::Completed => logged.has_ended,
            StopReason::Reset => logged.has_failed,
            StopReason::IdleTimeout => dropped - heard >= settings.idle,
            StopReason::Timeout => lasted >= settings.total,
            StopReason::MaxBytes => settings.bytes.is_some_and(|most| all > most),
            StopReason::MinRate => {
                least.is_some_and(|(grace, kept)| lasted >= grace && lasted > kept)
            }
            StopReason::Evicted => settings.at_once == Some(0),
            StopReason::Shutdown => !ends,
            _ => false,
        };
        assert!(is_over, "{event:?} {:?}", Brief(&logged));
    }
}

#[derive(Debug)]
struct Brief<'a>(#[expect(dead_code, reason = "printed when an assertion fails")] &'a Logged);
