use std::{
    future::Future,
    pin::Pin,
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
    event::{Discarded, Event, Observer},
    patience::Patience,
    peer::Peer,
};

/// What a kept connection is worth: how much of a refused body is read on, and
/// for how long.
///
/// The default is 1 MiB and 5 s, and 1024 drains at a time. The bytes are about what a new TCP and TLS
/// connection costs on a path of 20 Mbit/s and 100 ms; the time is what Kestrel
/// allows.
///
/// ```
/// use std::time::Duration;
/// use tower_bodyguard::{Drain, Linger, MIB};
///
/// let drain = Drain::new().bytes(4 * MIB).total(Duration::from_secs(2));
/// let linger = Linger::new().drain(drain);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    bytes: u64,
    total: Duration,
    max_connections: usize,
}

impl Drain {
    /// With the default bounds.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: 1 << 20,
            total: Duration::from_secs(5),
            max_connections: 1024,
        }
    }

    /// How many bytes are read to keep a connection. 0 keeps none that would have
    /// to wait.
    #[must_use]
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// How long a drain takes at most.
    #[must_use]
    pub const fn total(mut self, total: Duration) -> Self {
        self.total = total;
        self
    }

    /// Limits how many drains run at a time, 1024 by default; each is of a connection of its
    /// own. When that limit is reached, a new one evicts the slowest drain of the client that
    /// has the most ([`Linger::peer_key`](crate::Linger::peer_key) says what a client is).
    /// hyper closes the connection of an evicted drain once its answer is out.
    #[must_use]
    pub const fn max_connections(mut self, max_connections: usize) -> Self {
        self.max_connections = max_connections;
        self
    }

    pub(super) fn most(&self) -> usize {
        self.max_connections
    }

    pub(super) fn budget(&self) -> u64 {
        self.bytes
    }

    /// To keep the connection.
    pub(super) fn to_keep(self) -> Bounds {
        Bounds::new(self.total, self.total, Some(self.bytes))
    }

    /// To deliver an answer where no hook will: as much as comes in that time.
    pub(super) fn to_deliver(self) -> Bounds {
        Bounds {
            bytes: None,
            ..self.to_keep()
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

/// What a body is read on for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To keep the connection.
    Keep,
    /// To deliver the answer, where the connection will close.
    Deliver,
}

/// Until a stalled answer is out, while the client sends: nginx's `lingering_time`.
const STALLED: Bounds = Bounds::new(Duration::from_secs(30), Duration::from_secs(30), None);

/// Reads on in a task of its own. Where there is no runtime, the rest is let go.
pub(super) fn spawn<B>(
    rest: Remainder<B>,
    shared: &Shared,
    purpose: Purpose,
    exchange: Exchange<B>,
    peer: Peer,
) where
    B: Body + Unpin + Send + 'static,
{
    // Joined, the hook takes over as soon as the answer is out, and is cheaper.
    let past = purpose == Purpose::Deliver && rest.is_joined();
    let bounds = match purpose {
        Purpose::Keep => shared.drain.to_keep(),
        Purpose::Deliver if past => STALLED,
        Purpose::Deliver => shared.drain.to_deliver(),
    };
    let discarding = Discarding::new(Instant::now().into_std());
    let observer = shared.observer.clone();
    let mut draining = Draining::new(rest, bounds, discarding, exchange, observer);
    draining.past = past;
    run(draining, shared, peer);
}

/// As [`spawn`], to keep the connection, where a part has been read already.
pub(super) fn go_on<B>(
    rest: Remainder<B>,
    shared: &Shared,
    discarding: Discarding,
    exchange: Exchange<B>,
    peer: Peer,
) where
    B: Body + Unpin + Send + 'static,
{
    let bounds = shared.drain.to_keep();
    let observer = shared.observer.clone();
    let draining = Draining::new(rest, bounds, discarding, exchange, observer);
    run(draining, shared, peer);
}

/// Runs a drain in a slot.
fn run<B>(mut draining: Draining<B>, shared: &Shared, peer: Peer)
where
    B: Body + Unpin + Send + 'static,
{
    if shared.tasks.most() == 0 {
        draining.end = Some(Ended::Evicted);
    }
    let now = Instant::now().into_std();
    shared.tasks.spawn(now, peer, |standing| {
        draining.discarding.compete(standing);
        draining
    });
}

pin_project! {
    /// Reads a body to its end, or to a bound; then lets go of it.
    ///
    /// Where it is let go of, hyper closes the connection once the answer is out. A
    /// client that sends before it reads would keep it from getting out, for nobody
    /// reads any more: so a drain that comes to its bound under a stalled answer goes
    /// on until that is out.
    struct Draining<B> {
        rest: Option<Remainder<B>>,
        exchange: Exchange<B>,
        discarding: Discarding,
        bounds: Bounds,
        past: bool,
        // What ended it, once something has.
        end: Option<Ended>,
        observer: Observer,
        #[pin]
        patience: Patience,
    }

    impl<B> PinnedDrop for Draining<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // Ended by a shutdown, under a stalled answer: nobody reads for that any more.
            if let Some(rest) = this.rest.take().filter(Remainder::is_stalled) {
                rest.cut();
            }
            let end = this.end.unwrap_or(match this.discarding.is_evicted() {
                true => Ended::Evicted,
                false => Ended::Shutdown,
            });
            let drained = Event::Drained(Discarded::new(this.discarding, end));
            this.observer.observe(&drained);
        }
    }
}

impl<B> Draining<B> {
    fn new(
        rest: Remainder<B>,
        bounds: Bounds,
        discarding: Discarding,
        exchange: Exchange<B>,
        observer: Observer,
    ) -> Self {
        Self {
            rest: Some(rest),
            exchange,
            discarding,
            bounds,
            past: false,
            end: None,
            observer,
            patience: Patience::default(),
        }
    }

    /// Past the bounds, only the answer counts.
    fn go_past(self: Pin<&mut Self>) {
        let mut this = self.project();
        *this.past = true;
        *this.bounds = STALLED;
        this.discarding.restart(Instant::now().into_std());
        this.patience.set(Patience::default());
    }

    /// Whether the answer is with the kernel, as far as that is known.
    fn answer_is_out(&self, cx: &Context<'_>) -> bool {
        // Both, for either may be what is waited for.
        let answered = self.exchange.poll_answered(cx).is_ready();
        let rest = self.rest.as_ref();
        rest.is_none_or(|rest| rest.poll_unstalled(cx).is_ready()) && answered
    }
}

impl<B: Body + Unpin> Draining<B> {
    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = self.project();
        let Some(rest) = this.rest else {
            return Poll::Ready(Ended::Complete);
        };
        if let Poll::Ready(end) = rest.poll_discard(cx, this.discarding, this.bounds) {
            return Poll::Ready(end);
        }
        this.patience.poll_over(cx, this.discarding, this.bounds)
    }
}

impl<B: Body + Unpin> Future for Draining<B> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.past && self.answer_is_out(cx) {
                self.project().end.get_or_insert(Ended::Complete);
                return Poll::Ready(());
            }
            let end = ready!(self.as_mut().poll_end(cx));
            *self.as_mut().project().end = Some(end);
            if end == Ended::Complete || end == Ended::Reset {
                if let Some(rest) = self.project().rest.take() {
                    rest.finish();
                }
                return Poll::Ready(());
            }
            let joined = self.rest.as_ref().is_some_and(Remainder::is_joined);
            if self.past {
                if let Some(rest) = self.project().rest.take() {
                    rest.cut();
                }
                return Poll::Ready(());
            }
            if !joined {
                return Poll::Ready(());
            }
            self.as_mut().go_past();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        mem,
        sync::{Arc, Mutex},
    };

    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::channel::{Channel, Sender};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::{connection::Connection, delivery::StreamLinger};

    struct Drained {
        sender: Sender<Bytes, Infallible>,
        connection: Arc<Connection>,
        exchange: Exchange<Channel<Bytes, Infallible>>,
    }

    /// A body with its sender, on a connection; time is paused.
    fn draining(drain: Drain) -> Drained {
        let (sender, body) = Channel::new(1);
        let connection = Arc::new(Connection::default());
        let request = connection.begin();
        let rest = Remainder::new(body, false, Some((Arc::clone(&connection), request)));
        let exchange = Exchange::new();
        let shared = Shared::new(drain, StreamLinger::new(), Observer::default());
        spawn(
            rest,
            &shared,
            Purpose::Keep,
            exchange.clone(),
            Peer::alone(),
        );
        Drained {
            sender,
            connection,
            exchange,
        }
    }

    async fn send(sender: &mut Sender<Bytes, Infallible>, bytes: usize) -> bool {
        sender.send_data(vec![0; bytes].into()).await.is_ok()
    }

    /// Until the drain has let go of the body.
    async fn until_gone(sender: &mut Sender<Bytes, Infallible>) {
        while send(sender, 0).await {
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_within_the_bounds_finishes_its_request() {
        let mut drained = draining(Drain::new());
        for _ in 0..4 {
            sleep(Duration::from_secs(1)).await;
            assert!(send(&mut drained.sender, 1 << 18).await);
        }
        drop(drained.sender);
        sleep(Duration::from_millis(1)).await;
        assert!(drained.connection.is_finished());
    }

    /// As hyper's, where it reads the last bytes after the answer: their end is known by
    /// the length, and said when the next request comes.
    struct Unsaid(usize);

    impl Body for Unsaid {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match mem::take(&mut self.0) {
                0 => Poll::Pending,
                left => Poll::Ready(Some(Ok(Frame::data(vec![0; left].into())))),
            }
        }

        fn is_end_stream(&self) -> bool {
            self.0 == 0
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_where_the_length_says_so() {
        let connection = Arc::new(Connection::default());
        let request = connection.begin();
        let rest = Remainder::new(Unsaid(9), false, Some((Arc::clone(&connection), request)));
        let ends = Arc::new(Mutex::new(Vec::new()));
        let observer = Observer::new({
            let ends = Arc::clone(&ends);
            move |event: &Event<'_>| {
                if let Event::Drained(drained) = event {
                    ends.lock().unwrap().push((drained.bytes, drained.ended));
                }
            }
        });
        let shared = Shared::new(Drain::new(), StreamLinger::new(), observer);
        spawn(rest, &shared, Purpose::Keep, Exchange::new(), Peer::alone());
        shared.tasks.ended().await;
        assert_eq!(*ends.lock().unwrap(), [(9, Ended::Complete)]);
        assert!(connection.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_that_takes_too_long_is_let_go_of() {
        let mut drained = draining(Drain::new());
        drained.exchange.note().answered();
        let start = Instant::now();
        until_gone(&mut drained.sender).await;
        assert_eq!(start.elapsed().as_secs(), 5);
        assert!(!drained.connection.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_that_is_too_long_is_let_go_of() {
        let mut drained = draining(Drain::new().bytes(1000));
        drained.exchange.note().answered();
        assert!(send(&mut drained.sender, 1000).await);
        assert!(send(&mut drained.sender, 1).await);
        until_gone(&mut drained.sender).await;
        assert!(!drained.connection.is_finished());
    }

    /// hyper may find the end in what it has read already, and keep the connection:
    /// what the hook is told must not outlive the request.
    #[tokio::test(start_paused = true)]
    async fn letting_go_says_nothing_of_the_connection() {
        let mut drained = draining(Drain::new().bytes(1000));
        drained.exchange.note().answered();
        assert!(send(&mut drained.sender, 1001).await);
        until_gone(&mut drained.sender).await;
        assert!(!drained.connection.is_closing() && !drained.connection.is_cut());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_answer_is_read_for_past_the_bounds() {
        let mut drained = draining(Drain::new().bytes(1000));
        drained.connection.stall(true);
        for _ in 0..20 {
            assert!(send(&mut drained.sender, 1000).await);
            sleep(Duration::from_secs(1)).await;
        }
        drained.exchange.note().answered();
        sleep(Duration::from_secs(1)).await;
        assert!(
            send(&mut drained.sender, 1000).await,
            "it is still in hyper's buffer"
        );
        drained.connection.stall(false);
        until_gone(&mut drained.sender).await;
        assert!(!drained.connection.is_cut());
    }

    /// Nothing comes any more, and so nothing else wakes it.
    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_stall_is_noticed() {
        let mut drained = draining(Drain::new().bytes(1000));
        drained.connection.stall(true);
        drained.exchange.note().answered();
        assert!(send(&mut drained.sender, 1001).await);
        sleep(Duration::from_secs(1)).await;
        let start = Instant::now();
        drained.connection.stall(false);
        sleep(Duration::from_millis(1)).await;
        assert!(!send(&mut drained.sender, 1).await);
        assert_eq!(start.elapsed().as_secs(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_stays_stalled_is_cut() {
        let mut drained = draining(Drain::new().bytes(1000));
        drained.connection.stall(true);
        let start = Instant::now();
        while send(&mut drained.sender, 1000).await {
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(start.elapsed().as_secs(), 30);
        assert!(drained.connection.is_cut());
    }

    #[test]
    fn to_deliver_an_answer_only_time_counts() {
        let bounds = Drain::new().bytes(1000).to_deliver();
        assert_eq!((bounds.bytes, bounds.total), (None, Duration::from_secs(5)));
    }
}
