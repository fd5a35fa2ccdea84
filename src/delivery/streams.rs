//! HTTP/2: a stream lingers, too.
//!
//! RFC 9113 §8.1 lets a server answer early and then reset the stream with
//! `NO_ERROR`, "without losing the response". Many a client loses it: one that is
//! still sending when the reset comes treats the stream as failed. So the stream is
//! read on for a while after its answer, for most clients stop by themselves or
//! finish, and only then let go of, which is what makes h2 reset it.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::{
    exchange::{Exchange, Remainder},
    shared::Shared,
};
use crate::{
    bounds::{Bounds, Discarding, Ended},
    connection::Connection,
    cork::{self, Corked},
    event::{Discarded, Event},
    patience::Patience,
    peer::Peer,
    tasks::{Slot, Slots, Tasks},
};

/// How long a stream of HTTP/2 is read on after an early answer.
///
/// The default is 64 MiB and 2 s, and 64 streams at once in all the connections that
/// share the settings: whole on a fast network, and over in time for a person at a
/// browser. A stream whose client is silent for 1 s is dropped sooner.
///
/// When all slots are taken, a new stream evicts the stream with the lowest rate, divided by
/// the number of slots that its client holds ([`Linger::peer_key`](crate::Linger::peer_key)
/// says what a client is). With no slots at all, a stream is held unread for 20 ms and then dropped, which is enough for
/// clients that stop by themselves, such as curl.
///
/// Until its response is out a stream is read as well, for its window is the whole
/// connection's: as long as the response makes progress, and for the
/// [stall timeout](crate::Linger::stall_timeout), or as many bytes, without any.
///
/// ```
/// use std::time::Duration;
/// use tower_bodyguard::{Linger, StreamLinger};
///
/// // For clients that cannot stop before they have sent everything.
/// let linger = Linger::new().stream_linger(StreamLinger::new().total(Duration::from_secs(20)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLinger {
    bytes: u64,
    total: Duration,
    idle_timeout: Duration,
    at_once: usize,
}

/// For a client to see its answer before the reset: curl 7.88 needs both not to come
/// in one breath.
const HOLD: Duration = Duration::from_millis(20);

impl StreamLinger {
    /// With the default bounds.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: 64 << 20,
            total: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(1),
            at_once: 64,
        }
    }

    /// How many bytes of a stream are read after its answer.
    #[must_use]
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// How long a stream is read after its answer.
    #[must_use]
    pub const fn total(mut self, total: Duration) -> Self {
        self.total = total;
        self
    }

    /// Limits how long a client may be silent after its answer, 1 s by default.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bodyguard::StreamLinger;
    ///
    /// // For clients whose line may stall.
    /// let stream_linger = StreamLinger::new()
    ///     .total(Duration::from_secs(20))
    ///     .idle_timeout(Duration::from_secs(5));
    /// ```
    #[must_use]
    pub const fn idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.idle_timeout = idle_timeout;
        self
    }

    /// How many streams are read on at once. 0 reads none.
    #[must_use]
    pub const fn at_once(mut self, streams: usize) -> Self {
        self.at_once = streams;
        self
    }
}

impl Default for StreamLinger {
    fn default() -> Self {
        Self::new()
    }
}

/// The settings, and the streams that linger by them.
#[derive(Debug)]
pub(super) struct Streams {
    settings: StreamLinger,
    /// All streams, those whose answers are not out yet among them.
    tasks: Arc<Tasks>,
    slots: Arc<Slots>,
}

impl Streams {
    pub(super) fn new(settings: StreamLinger) -> Self {
        Self {
            settings,
            tasks: Arc::default(),
            slots: Arc::new(Slots::new(settings.at_once)),
        }
    }

    pub(super) fn child(&self) -> Self {
        Self {
            settings: self.settings,
            tasks: Arc::new(self.tasks.child()),
            slots: Arc::clone(&self.slots),
        }
    }

    pub(super) fn settings(&self) -> StreamLinger {
        self.settings
    }

    pub(super) fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }
}

/// Reads on in a task of its own. The response leaves whole, or soon, if `cork` says whose
/// connection waits for it.
pub(super) fn linger<B>(
    shared: &Arc<Shared>,
    rest: Remainder<B>,
    exchange: Exchange<B>,
    cork: Option<&Arc<Connection>>,
    peer: Peer,
) where
    B: Body + Unpin + Send + 'static,
{
    let now = Instant::now().into_std();
    let phase = match cork.and_then(|connection| Corked::hold(connection, now)) {
        Some(corked) => Phase::Corked { corked },
        None => Phase::answering(shared, &exchange, 0),
    };
    let lingering = Lingering {
        rest,
        exchange,
        peer,
        phase,
        discarding: Discarding::new(now),
        end: None,
        shared: Arc::clone(shared),
        patience: Patience::default(),
    };
    shared.streams.tasks.spawn(now, peer, 0, |_| lingering);
}

enum Phase {
    /// The answer is about to be there whole: none of it leaves before that.
    Corked { corked: Corked },
    /// The response is not out. What comes is read, for the window is the whole connection's.
    /// That ends when the response has made no progress for the time of a stall, or for as many
    /// bytes as a stream may linger for; the response itself goes on without.
    Answering {
        /// The parts of the response that hyper had when the bounds began.
        taken: u64,
        bounds: Bounds,
    },
    /// From here on the bounds count.
    Answered { _slot: Slot, bounds: Bounds },
    /// So they do, and nothing is read.
    Held,
}

impl Phase {
    /// With bounds that begin now, when so many bytes were discarded.
    fn answering<B>(shared: &Shared, exchange: &Exchange<B>, discarded: u64) -> Self {
        let timeout = shared.stall_timeout;
        let bytes = shared.streams.settings.bytes.saturating_add(discarded);
        Self::Answering {
            taken: exchange.taken(),
            bounds: Bounds::new(timeout, timeout, Some(bytes)),
        }
    }
}

pin_project! {
    /// Keeps a stream's body until the client is done with it, or a bound is reached.
    struct Lingering<B> {
        rest: Remainder<B>,
        exchange: Exchange<B>,
        peer: Peer,
        phase: Phase,
        discarding: Discarding,
        end: Option<Ended>,
        shared: Arc<Shared>,
        #[pin]
        patience: Patience,
    }

    impl<B> PinnedDrop for Lingering<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let end = this.end.unwrap_or(Ended::Shutdown);
            let lingered = Event::StreamLingered(Discarded::new(this.discarding, end));
            this.shared.observer.observe(&lingered);
        }
    }
}

impl<B> Lingering<B> {
    fn bounds(&self) -> Bounds {
        match &self.phase {
            Phase::Corked { .. } => Bounds::new(cork::HOLD, cork::HOLD, None),
            Phase::Answering { bounds, .. } | Phase::Answered { bounds, .. } => *bounds,
            Phase::Held => Bounds::new(HOLD, HOLD, None),
        }
    }

    /// With bounds that count from now. Returns the phase before.
    fn go_on(self: Pin<&mut Self>, phase: Phase) -> Phase {
        let mut this = self.project();
        this.discarding.restart(Instant::now().into_std());
        this.patience.set(Patience::default());
        mem::replace(this.phase, phase)
    }

    /// Until the response is out.
    fn answer(self: Pin<&mut Self>) {
        let discarded = self.discarding.discarded();
        let phase = Phase::answering(&self.shared, &self.exchange, discarded);
        if let Phase::Corked { corked } = self.go_on(phase) {
            corked.give_up(Instant::now().into_std());
        }
    }

    /// Whether the response has made progress since its bounds began.
    fn has_progressed(&self) -> bool {
        matches!(self.phase, Phase::Answering { taken, .. } if taken != self.exchange.taken())
    }

    /// The answer is out: the stream takes a slot.
    fn answered(mut self: Pin<&mut Self>, cx: &Context<'_>) {
        let settings = self.shared.streams.settings;
        let now = Instant::now().into_std();
        let sent = self.discarding.discarded();
        let slot = self.shared.streams.slots.take(now, self.peer, sent, cx);
        let phase = match slot {
            Some((_slot, standing)) => {
                self.as_mut().project().discarding.compete(standing);
                let bytes = settings.bytes.saturating_add(self.discarding.discarded());
                let idle = settings.idle_timeout.min(settings.total);
                let bounds = Bounds::new(idle, settings.total, Some(bytes));
                Phase::Answered { _slot, bounds }
            }
            None => Phase::Held,
        };
        self.go_on(phase);
    }
}

impl<B: Body + Unpin> Lingering<B> {
    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let bounds = self.bounds();
        let this = self.project();
        if !matches!(this.phase, Phase::Held) {
            if let Poll::Ready(end) = this.rest.poll_discard(cx, this.discarding, &bounds) {
                return Poll::Ready(end);
            }
        }
        this.patience.poll_over(cx, this.discarding, &bounds)
    }
}

impl<B: Body + Unpin> Future for Lingering<B> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let is_answering = matches!(self.phase, Phase::Corked { .. } | Phase::Answering { .. });
        if is_answering && self.exchange.poll_answered(cx).is_ready() {
            self.as_mut().answered(cx);
        }
        loop {
            if self.discarding.is_evicted() {
                *self.project().end = Some(Ended::Evicted);
                return Poll::Ready(());
            }
            let end = ready!(self.as_mut().poll_end(cx));
            let end = match (&self.phase, end) {
                (_, Ended::Complete | Ended::Reset) => end,
                (Phase::Corked { .. }, _) => {
                    self.as_mut().answer();
                    continue;
                }
                (Phase::Answering { .. }, _) if self.has_progressed() => {
                    self.as_mut().answer();
                    continue;
                }
                // There are no slots.
                (Phase::Held, _) => Ended::Evicted,
                (Phase::Answering { .. } | Phase::Answered { .. }, end) => end,
            };
            *self.project().end = Some(end);
            return Poll::Ready(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Mutex, Weak},
    };

    use bytes::Bytes;
    use http_body_util::channel::{Channel, Sender};
    use tokio::time::{advance, sleep};

    use super::*;
    use crate::{delivery::Drain, event::Observer, stall::STALL_TIMEOUT};

    struct Upload {
        sender: Sender<Bytes, Infallible>,
        exchange: Exchange<Channel<Bytes, Infallible>>,
        connection: Weak<Connection>,
    }

    /// A stream that has been answered by a service whose answer is still to come.
    fn corked() -> Upload {
        upload(StreamLinger::new(), true)
    }

    fn upload(settings: StreamLinger, is_corked: bool) -> Upload {
        let shared = Shared::new(Drain::new(), STALL_TIMEOUT, settings, Observer::default());
        upload_to(&shared, is_corked)
    }

    fn upload_to(shared: &Arc<Shared>, is_corked: bool) -> Upload {
        let (sender, body) = Channel::new(1);
        let connection = Arc::new(Connection::default());
        let exchange = Exchange::new();
        let rest = Remainder::new(body, false, None);
        let cork = is_corked.then_some(&connection);
        linger(shared, rest, exchange.clone(), cork, Peer::alone());
        Upload {
            sender,
            exchange,
            connection: Arc::downgrade(&connection),
        }
    }

    async fn send(upload: &mut Upload) -> bool {
        let sent = upload.sender.send_data(vec![0; 1000].into()).await;
        sleep(Duration::from_micros(1)).await;
        sent.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_outlives_its_cork() {
        let mut upload = corked();
        assert!(send(&mut upload).await);
        assert!(upload.connection.upgrade().is_some());
        // The timer goes off, and bytes come, in one breath.
        upload.sender.send_data(Bytes::from("more")).await.unwrap();
        advance(cork::HOLD).await;
        assert!(send(&mut upload).await && send(&mut upload).await);
        assert!(upload.connection.upgrade().is_none(), "it is let go of");
        // From the answer on, there are 2 s.
        sleep(Duration::from_secs(10)).await;
        upload.exchange.note().answered();
        sleep(Duration::from_millis(950)).await;
        assert!(send(&mut upload).await);
        sleep(Duration::from_millis(950)).await;
        assert!(send(&mut upload).await);
        sleep(Duration::from_millis(200)).await;
        assert!(!send(&mut upload).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_frees_the_cork() {
        let mut upload = corked();
        upload.exchange.note().answered();
        assert!(send(&mut upload).await);
        assert!(upload.connection.upgrade().is_none());
    }

    /// Its window is the whole connection's, and has to be given back.
    #[tokio::test(start_paused = true)]
    async fn what_comes_before_the_answer_is_read_and_does_not_count() {
        for at_once in [0, 64] {
            let settings = StreamLinger::new().bytes(10_000).at_once(at_once);
            let mut upload = upload(settings, false);
            for _ in 0..9 {
                assert!(send(&mut upload).await);
            }
            upload.exchange.note().answered();
            sleep(Duration::from_micros(1)).await;
            let mut sent = 0;
            while send(&mut upload).await {
                sent += 1;
            }
            // Of those that find no place one waits in the channel, and nothing is read.
            let expected = if at_once == 0 { 1..=2 } else { 10..=12 };
            assert!(expected.contains(&sent), "{sent}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silent_stream_ends_at_idle_timeout() {
        let settings = StreamLinger::new().total(Duration::from_secs(20));
        let mut upload = upload(settings, false);
        upload.exchange.note().answered();
        assert!(send(&mut upload).await);
        sleep(Duration::from_millis(990)).await;
        assert!(send(&mut upload).await);
        sleep(Duration::from_millis(1_010)).await;
        assert!(!send(&mut upload).await);
    }

    #[tokio::test(start_paused = true)]
    async fn stream_beyond_slots_evicts_slowest() {
        let settings = StreamLinger::new().at_once(2);
        let ends = Arc::new(Mutex::new(Vec::new()));
        let observer = Observer::new({
            let ends = Arc::clone(&ends);
            move |event: &Event<'_>| {
                if let Event::StreamLingered(lingered) = event {
                    ends.lock().unwrap().push((lingered.bytes, lingered.ended));
                }
            }
        });
        let shared = Shared::new(Drain::new(), STALL_TIMEOUT, settings, observer);
        let mut uploads = [9, 5, 1].map(|bytes| (upload_to(&shared, false), bytes));
        for (upload, bytes) in &mut uploads {
            upload.exchange.note().answered();
            sleep(Duration::from_millis(1)).await;
            for _ in 0..*bytes {
                send(upload).await;
            }
        }
        assert_eq!(*ends.lock().unwrap(), [(5_000, Ended::Evicted)]);
        assert_eq!(shared.reading(), 2);
    }
}
