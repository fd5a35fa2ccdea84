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
use tokio::{runtime::Handle, time::Instant};

use super::{handle::DeliveryHandle, handoff::ResponseProgress, unread_body::UnreadBody};
use crate::{
    budget::{Bounds, DeadlineTimer, Discarding, STALL_TIMEOUT_AT_SHUTDOWN, Stall, StopReason},
    observe::{Discarded, Event, Observer},
    shared::{connection::Connection, peer::Peer},
};

/// The purpose of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Keeps the connection.
    Keep,
    /// Delivers the response on a connection that will close.
    Deliver,
}

/// The time that hyper gets after the response's last frame, to write it or to find that the socket
/// is full. hyper does either in one turn (`proto/h1/dispatch.rs`, `poll_loop`).
const FLUSH: Bounds = {
    let time = Duration::from_millis(5);
    Bounds::new(time, time, None)
};

/// No limits: only the progress of the response counts.
const UNBOUNDED: Bounds = Bounds::new(Duration::MAX, Duration::MAX, None);

/// Spawns a task that drains the body. Without a runtime, drops the body.
pub(super) fn spawn<B>(
    rest: UnreadBody<B>,
    handle: &DeliveryHandle,
    purpose: Purpose,
    response: Arc<dyn ResponseProgress>,
    peer: Peer,
) where
    B: Body + Unpin + Send + 'static,
{
    let discarding = Discarding::new(Instant::now().into_std());
    go_on(rest, handle, purpose, discarding, response, peer);
}

/// Spawns a task that continues a drain, of which `discarding` has counted the first part.
pub(super) fn go_on<B>(
    rest: UnreadBody<B>,
    handle: &DeliveryHandle,
    purpose: Purpose,
    discarding: Discarding,
    response: Arc<dyn ResponseProgress>,
    peer: Peer,
) where
    B: Body + Unpin + Send + 'static,
{
    let bounds = match purpose {
        Purpose::Keep => handle.drain.to_keep(),
        Purpose::Deliver => handle.drain.to_deliver(),
    };
    let mut draining = Draining::new(rest, bounds, discarding, response, handle, peer);
    if purpose == Purpose::Deliver {
        draining.delivering = draining.rest.as_ref().and_then(Delivering::of);
    }
    run(draining, handle);
}

/// Runs a drain in a slot.
fn run<B>(mut draining: Draining<B>, handle: &DeliveryHandle)
where
    B: Body + Unpin + Send + 'static,
{
    if handle.tasks.most() == 0 {
        draining.end = Some(StopReason::Evicted);
    }
    let now = Instant::now().into_std();
    let sent = draining.discarding.discarded();
    handle
        .tasks
        .spawn(now, draining.peer.id(), sent, |standing| {
            draining.discarding.compete(standing);
            draining
        });
}

/// The state of a drain that has reached its limit, on a combined connection, until the kernel has
/// the response.
///
/// The drain reads only while the response is blocked on a full send buffer. A client that sends
/// everything before it reads would block both sides otherwise. The response is cut when it has
/// made no progress for the timeout although the client sends (see [`Stall`]).
struct Delivering {
    connection: Arc<Connection>,
    /// The value of [`Connection::stalls`] at the latest check.
    stalls: u64,
    stall: Stall,
    /// Whether hyper has the whole response, and no write is blocked.
    flushing: bool,
}

impl Delivering {
    /// Returns `None` if the connection is not known.
    fn of<B>(rest: &UnreadBody<B>) -> Option<Self> {
        let connection = Arc::clone(rest.connection()?);
        Some(Self {
            stalls: connection.stalls(),
            connection,
            stall: Stall::default(),
            flushing: false,
        })
    }

    /// Completes when the response has made progress, or was blocked, since the last check.
    fn poll_changed(&mut self, cx: &Context<'_>) -> Poll<()> {
        ready!(self.connection.poll_progress(cx, self.stalls));
        self.stalls = self.connection.stalls();
        self.stall.progress();
        self.flushing = false;
        Poll::Ready(())
    }

    fn is_stalled(&self) -> bool {
        self.stalls % 2 == 1
    }
}

/// A body that a task can drain.
trait Drainable: Body + Unpin + Send + 'static {}

impl<B: Body + Unpin + Send + 'static> Drainable for B {}

pin_project! {
    /// A future that drains a body to its end or to a limit. At a limit it drops the body, and
    /// hyper closes the connection once the response is out.
    struct Draining<B: Drainable> {
        // `None` once the body has been dropped.
        rest: Option<UnreadBody<B>>,
        response: Arc<dyn ResponseProgress>,
        discarding: Discarding,
        bounds: Bounds,
        delivering: Option<Delivering>,
        stall_timeout: Duration,
        // The limit that the drain has reached, if any.
        bound: Option<StopReason>,
        // The reason why the drain has ended, once it has.
        end: Option<StopReason>,
        // Whether the drain may continue after a shutdown while its response is blocked on a full
        // send buffer. It may do so only once.
        may_go_on: bool,
        observer: Observer,
        peer: Peer,
        #[pin]
        timer: DeadlineTimer,
    }

    impl<B: Drainable> PinnedDrop for Draining<B> {
        fn drop(mut this: Pin<&mut Self>) {
            if let (Some(last), Ok(runtime)) = (this.as_mut().go_on(), Handle::try_current()) {
                runtime.spawn(last);
                return;
            }
            let end = this.end.unwrap_or(match this.discarding.is_evicted() {
                true => StopReason::Evicted,
                false => StopReason::Shutdown,
            });
            let (discarding, peer) = (&this.discarding, this.peer.addr());
            this.observer
                .observe_with(|| Event::Drained(Discarded::new(discarding, end, peer)));
        }
    }
}

impl<B: Drainable> Draining<B> {
    fn new(
        rest: UnreadBody<B>,
        bounds: Bounds,
        discarding: Discarding,
        response: Arc<dyn ResponseProgress>,
        handle: &DeliveryHandle,
        peer: Peer,
    ) -> Self {
        Self {
            rest: Some(rest),
            response,
            discarding,
            bounds,
            delivering: None,
            stall_timeout: handle.stall_timeout,
            bound: None,
            end: None,
            may_go_on: true,
            observer: handle.observer.clone(),
            peer,
            timer: DeadlineTimer::default(),
        }
    }

    /// Returns a continuation of the drain if a shutdown ends it while its response is blocked on a
    /// full send buffer. Dropping the body would block both sides for as long as the client likes.
    /// Cutting the response would take it from a client that reads.
    fn go_on(self: Pin<&mut Self>) -> Option<Self> {
        let this = self.project();
        let is_stalled = |rest: &mut UnreadBody<B>| {
            let connection = rest.connection();
            connection.is_some_and(|connection| connection.is_stalled())
        };
        // An evicted drain has to free its slot. hyper treats its body as any other that was
        // dropped.
        if this.end.is_some() || !*this.may_go_on || this.discarding.is_evicted() {
            return None;
        }
        let rest = this.rest.take_if(is_stalled)?;
        Some(Self {
            delivering: Delivering::of(&rest),
            rest: Some(rest),
            response: this.response.clone(),
            discarding: this.discarding.clone(),
            bounds: *this.bounds,
            stall_timeout: STALL_TIMEOUT_AT_SHUTDOWN.min(*this.stall_timeout),
            bound: *this.bound,
            end: None,
            may_go_on: false,
            observer: this.observer.clone(),
            peer: *this.peer,
            timer: DeadlineTimer::default(),
        })
    }

    /// Ends the drain of a body that is at its end.
    fn finish(self: Pin<&mut Self>, end: StopReason) -> Poll<()> {
        let this = self.project();
        if let Some(rest) = this.rest.take() {
            rest.finish();
        }
        *this.end = Some(end);
        Poll::Ready(())
    }

    /// Drains the body within the limits.
    fn poll_within(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<StopReason> {
        let this = self.project();
        let Some(rest) = this.rest else {
            return Poll::Ready(StopReason::Completed);
        };
        if let Poll::Ready(end) = rest.poll_discard(cx, this.discarding, this.bounds) {
            return Poll::Ready(end);
        }
        this.timer.poll_over(cx, this.discarding, this.bounds)
    }

    /// Drains the body past the limits, while the response is blocked. Returns `Completed` when the
    /// response is out or the body is at its end.
    fn poll_delivered(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<StopReason> {
        let mut this = self.project();
        let (Some(rest), Some(delivering)) = (this.rest, this.delivering) else {
            return Poll::Ready(StopReason::Completed);
        };
        while delivering.poll_changed(cx).is_ready() {}
        if !delivering.is_stalled() {
            ready!(this.response.poll_taken_whole(cx));
            if !mem::replace(&mut delivering.flushing, true) {
                this.discarding.restart(Instant::now().into_std());
                this.timer.set(DeadlineTimer::default());
            }
            let flushed = this.timer.poll_over(cx, this.discarding, &FLUSH);
            return flushed.map(|_| StopReason::Completed);
        }
        let before = this.discarding.discarded();
        if let Poll::Ready(end) = rest.poll_discard(cx, this.discarding, &UNBOUNDED) {
            return Poll::Ready(end);
        }
        let heard = this.discarding.discarded() > before;
        let now = Instant::now().into_std();
        if heard && delivering.stall.heard(now, *this.stall_timeout) {
            return Poll::Ready(StopReason::Timeout);
        }
        Poll::Pending
    }
}

impl<B: Drainable> Future for Draining<B> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.delivering.is_none() {
            let end = ready!(self.as_mut().poll_within(cx));
            let this = self.as_mut().project();
            if matches!(end, StopReason::Completed | StopReason::Reset) {
                return self.finish(end);
            }
            *this.delivering = this.rest.as_ref().and_then(Delivering::of);
            if this.delivering.is_none() {
                *this.end = Some(end);
                return Poll::Ready(());
            }
            *this.bound = Some(end);
        }
        let end = ready!(self.as_mut().poll_delivered(cx));
        let this = self.as_mut().project();
        let is_body_over = this.rest.as_ref().is_some_and(UnreadBody::is_end_stream);
        match end {
            StopReason::Completed if !is_body_over => *this.end = this.bound.or(Some(end)),
            StopReason::Completed | StopReason::Reset => return self.finish(end),
            cut => {
                if let Some(rest) = this.rest.take() {
                    rest.cut();
                }
                let last = !*this.may_go_on;
                *this.end = Some(if last { StopReason::Shutdown } else { cut });
            }
        }
        Poll::Ready(())
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
    use crate::{
        budget::STALL_TIMEOUT,
        delivery::{DeliveryConfig, Drain, handoff::BodyHandoff},
    };

    struct Drained {
        sender: Sender<Bytes, Infallible>,
        connection: Arc<Connection>,
        response: Arc<dyn ResponseProgress>,
        handle: Arc<DeliveryHandle>,
    }

    /// Spawns a drain of a body on a connection, and returns the body's sender. Time is paused.
    fn draining(drain: Drain) -> Drained {
        let (sender, body) = Channel::new(1);
        let connection = Arc::new(Connection::default());
        let request = connection.begin();
        let rest = UnreadBody::new(body, false, Some((Arc::clone(&connection), request)));
        let response = BodyHandoff::<Channel<Bytes, Infallible>, ()>::new().progress();
        let handle = DeliveryHandle::new(&DeliveryConfig::new().drain(drain));
        spawn(
            rest,
            &handle,
            Purpose::Keep,
            Arc::clone(&response),
            Peer::default(),
        );
        Drained {
            sender,
            connection,
            response,
            handle,
        }
    }

    async fn send(sender: &mut Sender<Bytes, Infallible>, bytes: usize) -> bool {
        sender.send_data(vec![0; bytes].into()).await.is_ok()
    }

    /// Waits until the drain has dropped the body.
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

    /// A body that behaves like hyper's when hyper reads its last bytes after the response. Its
    /// length shows that it has ended, but its stream ends only when the next request comes.
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
        let rest = UnreadBody::new(Unsaid(9), false, Some((Arc::clone(&connection), request)));
        let ends = Arc::new(Mutex::new(Vec::new()));
        let observer = Observer::new({
            let ends = Arc::clone(&ends);
            move |event: &Event<'_>| {
                if let Event::Drained(drained) = event {
                    ends.lock().unwrap().push((drained.bytes, drained.reason));
                }
            }
        });
        let handle = DeliveryHandle::new(&DeliveryConfig::new().observer(observer));
        spawn(
            rest,
            &handle,
            Purpose::Keep,
            BodyHandoff::<Unsaid, ()>::new().progress(),
            Peer::default(),
        );
        handle.tasks.ended().await;
        assert_eq!(*ends.lock().unwrap(), [(9, StopReason::Completed)]);
        assert!(connection.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_that_takes_too_long_is_released() {
        let mut drained = draining(Drain::new());
        drained.response.taken_whole();
        let start = Instant::now();
        until_gone(&mut drained.sender).await;
        assert_eq!(start.elapsed().as_secs(), 5);
        assert!(!drained.connection.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_that_is_too_long_is_released() {
        let mut drained = draining(Drain::new().max_bytes(1000));
        drained.response.taken_whole();
        assert!(send(&mut drained.sender, 1000).await);
        assert!(send(&mut drained.sender, 1).await);
        until_gone(&mut drained.sender).await;
        assert!(!drained.connection.is_finished());
    }

    /// hyper may find the body's end in its read buffer and keep the connection. So the drain must
    /// not leave a state on the connection that outlives the request.
    #[tokio::test(start_paused = true)]
    async fn letting_go_says_nothing_of_the_connection() {
        let mut drained = draining(Drain::new().max_bytes(1000));
        drained.response.taken_whole();
        assert!(send(&mut drained.sender, 1001).await);
        until_gone(&mut drained.sender).await;
        assert!(!drained.connection.is_closing() && !drained.connection.is_cut());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_response_is_read_for_past_the_bounds() {
        let mut drained = draining(Drain::new().max_bytes(1000));
        drained.connection.stall(true);
        for _ in 0..20 {
            assert!(send(&mut drained.sender, 1000).await);
            sleep(Duration::from_secs(1)).await;
        }
        drained.response.taken_whole();
        sleep(Duration::from_secs(1)).await;
        assert!(
            send(&mut drained.sender, 1000).await,
            "it is still in hyper's buffer"
        );
        drained.connection.stall(false);
        until_gone(&mut drained.sender).await;
        assert!(!drained.connection.is_cut());
    }

    /// The client sends nothing more, so nothing else wakes the drain.
    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_stall_is_noticed() {
        let mut drained = draining(Drain::new().max_bytes(1000));
        drained.connection.stall(true);
        drained.response.taken_whole();
        assert!(send(&mut drained.sender, 1001).await);
        sleep(Duration::from_secs(1)).await;
        let start = Instant::now();
        drained.connection.stall(false);
        sleep(Duration::from_millis(10)).await;
        assert!(!send(&mut drained.sender, 1).await);
        assert_eq!(start.elapsed().as_secs(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn response_that_makes_progress_is_never_cut() {
        let mut drained = draining(Drain::new().max_bytes(1000));
        drained.connection.stall(true);
        for _ in 0..100 {
            assert!(send(&mut drained.sender, 1000).await);
            sleep(Duration::from_secs(1)).await;
            drained.connection.stall(false);
            drained.connection.stall(true);
        }
        assert!(!drained.connection.is_cut());
    }

    #[tokio::test(start_paused = true)]
    async fn response_to_a_silent_client_is_never_cut() {
        let mut drained = draining(Drain::new().max_bytes(1000));
        drained.connection.stall(true);
        assert!(send(&mut drained.sender, 1001).await);
        sleep(Duration::from_secs(600)).await;
        assert!(send(&mut drained.sender, 1).await);
        assert!(!drained.connection.is_cut());
    }

    /// The drain holds the body until the response is out. Until then the response is slow, not
    /// blocked.
    #[tokio::test(start_paused = true)]
    async fn response_that_does_not_stall_is_not_read_for() {
        let mut drained = draining(Drain::new().max_bytes(1000));
        assert!(send(&mut drained.sender, 1001).await);
        sleep(Duration::from_secs(600)).await;
        // One frame waits in the channel.
        assert!(send(&mut drained.sender, 1).await);
        let sent = drained.sender.try_send(Frame::data(Bytes::from("a")));
        assert!(sent.is_err(), "nothing is read");
        drained.response.taken_whole();
        until_gone(&mut drained.sender).await;
        assert!(!drained.connection.is_cut());
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_cuts_a_stalled_response_only_without_progress() {
        for progresses in [true, false] {
            let mut drained = draining(Drain::new().max_bytes(1000));
            drained.connection.stall(true);
            assert!(send(&mut drained.sender, 1001).await);
            drained.handle.tasks.end();
            for _ in 0..40 {
                sleep(Duration::from_millis(100)).await;
                if !send(&mut drained.sender, 1).await {
                    break;
                }
                if progresses {
                    drained.connection.stall(false);
                    drained.connection.stall(true);
                }
            }
            assert_eq!(drained.connection.is_cut(), !progresses);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_stays_stalled_is_cut() {
        let mut drained = draining(Drain::new().max_bytes(1000));
        drained.connection.stall(true);
        let start = Instant::now();
        while send(&mut drained.sender, 1000).await {
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(start.elapsed().as_secs(), STALL_TIMEOUT.as_secs());
        assert!(drained.connection.is_cut());
    }

    #[test]
    fn drain_that_delivers_a_response_counts_only_time() {
        let bounds = Drain::new().max_bytes(1000).to_deliver();
        assert_eq!((bounds.bytes, bounds.total), (None, Duration::from_secs(5)));
    }
}
