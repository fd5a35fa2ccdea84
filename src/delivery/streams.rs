//! Reads a stream of HTTP/2 or HTTP/3 for a while after an early response.
//!
//! RFC 9113 §8.1 lets a server respond early and then reset the stream with `NO_ERROR`. Clients
//! must not discard the response because of such a reset. Many clients still lose it: if the reset
//! arrives while they send, they treat the stream as failed. So the task reads the stream for a
//! while after the response. Most clients stop or finish in that time. At a limit, the task drops
//! the body, and h2 resets the stream.
//!
//! Over HTTP/3 the same error code is `H3_NO_ERROR` (RFC 9114 §4.1), and the end of reading costs
//! more: Chromium's `fetch` waits for its upload, and never settles once it has to stop. So these
//! streams have limits of their own, which are those of a lingering close.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::{
    handle::{DeliveryHandle, Multiplexed, Streams},
    handoff::ResponseProgress,
    unread_body::UnreadBody,
};
use crate::{
    budget::{Bounds, DeadlineTimer, Discarding, StopReason},
    observe::{Discarded, Event},
    shared::{
        connection::{Connection, WriteHold},
        peer::Peer,
        write_gate,
    },
    tasks::Slot,
};

/// The time between a response and the reset, if there are no slots, so that the client sees the
/// response first. curl 7.88 needs the two not to arrive in the same read.
const HOLD: Duration = Duration::from_millis(20);

/// No limits: what is there already is read without waiting.
const IN_PASSING: Bounds = Bounds::new(Duration::MAX, Duration::MAX, None);

/// Spawns a task that reads the stream. If `gate` is set, that connection writes nothing until the
/// response is complete, or for [`write_gate::HOLD`] at most.
pub(super) fn linger<B>(
    handle: &Arc<DeliveryHandle>,
    version: Multiplexed,
    mut rest: UnreadBody<B>,
    response: Arc<dyn ResponseProgress>,
    gate: Option<&Arc<Connection>>,
    peer: Peer,
) where
    B: Body + Unpin + Send + 'static,
{
    let now = Instant::now().into_std();
    let mut discarding = Discarding::new(now);
    if version == Multiplexed::Http3 {
        // A body over HTTP/3 may not know its end before it is polled. One that has arrived needs
        // no task. The task polls again, with a waker.
        let cx = &mut Context::from_waker(Waker::noop());
        if let Poll::Ready(end) = rest.poll_discard(cx, &mut discarding, &IN_PASSING) {
            if discarding.discarded() > 0 {
                observe(handle, &discarding, end, &peer);
            }
            return rest.finish();
        }
    }
    let phase = match gate.and_then(|connection| WriteHold::hold(connection, now)) {
        Some(hold) => Phase::Gated { hold },
        None => Phase::responding(handle, version, &*response, discarding.discarded()),
    };
    let lingering = StreamLingerTask {
        rest,
        response,
        peer,
        phase,
        discarding,
        end: None,
        version,
        handle: Arc::clone(handle),
        timer: DeadlineTimer::default(),
    };
    let tasks = &handle.streams(version).tasks;
    tasks.spawn(now, peer.id(), 0, |_| lingering);
}

fn observe(handle: &DeliveryHandle, discarding: &Discarding, end: StopReason, peer: &Peer) {
    let lingered = || Event::StreamLingered(Discarded::new(discarding, end, peer.addr()));
    handle.observer.observe_with(lingered);
}

enum Phase {
    /// The response is about to be complete. The connection writes no part of it before that.
    Gated { hold: WriteHold },
    /// The response is not out yet. The task reads the stream, because all streams share the
    /// connection's window. The task stops if the response makes no progress for the stall timeout,
    /// or while the client sends [`StreamLinger::max_bytes`]. The response itself continues.
    ///
    /// [`StreamLinger::max_bytes`]: crate::StreamLinger::max_bytes
    Responding {
        /// How many parts of the response hyper had taken when the limits began.
        taken: u64,
        bounds: Bounds,
    },
    /// The response is out, and the stream's own limits count.
    Responded { _slot: Slot, bounds: Bounds },
    /// The response is out, and there are no slots: nothing is read, and the stream ends after
    /// [`HOLD`].
    Held,
}

impl Phase {
    /// Returns the phase with limits that begin now, after `discarded` bytes.
    fn responding(
        handle: &DeliveryHandle,
        version: Multiplexed,
        response: &dyn ResponseProgress,
        discarded: u64,
    ) -> Self {
        let timeout = handle.stall_timeout;
        let settings = handle.streams(version).settings;
        Self::Responding {
            taken: response.parts_taken(),
            bounds: Bounds {
                bytes: settings.bounds_after(discarded).bytes,
                ..Bounds::new(timeout, timeout, None)
            },
        }
    }
}

pin_project! {
    /// A task that holds a stream's body until the client has ended or reset it, or until a limit
    /// is reached.
    struct StreamLingerTask<B> {
        rest: UnreadBody<B>,
        response: Arc<dyn ResponseProgress>,
        peer: Peer,
        phase: Phase,
        discarding: Discarding,
        end: Option<StopReason>,
        version: Multiplexed,
        handle: Arc<DeliveryHandle>,
        #[pin]
        timer: DeadlineTimer,
    }

    impl<B> PinnedDrop for StreamLingerTask<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let end = this.end.unwrap_or(StopReason::Shutdown);
            observe(this.handle, this.discarding, end, this.peer);
        }
    }
}

impl<B> StreamLingerTask<B> {
    fn streams(&self) -> &Streams {
        self.handle.streams(self.version)
    }

    fn bounds(&self) -> Bounds {
        match &self.phase {
            Phase::Gated { .. } => Bounds::new(write_gate::HOLD, write_gate::HOLD, None),
            Phase::Responding { bounds, .. } | Phase::Responded { bounds, .. } => *bounds,
            Phase::Held => Bounds::new(HOLD, HOLD, None),
        }
    }

    /// Enters a phase whose limits count from now.
    fn go_on(self: Pin<&mut Self>, phase: Phase) {
        let mut this = self.project();
        let now = Instant::now().into_std();
        this.discarding.restart(now);
        this.timer.set(DeadlineTimer::default());
        if let Phase::Gated { hold } = mem::replace(this.phase, phase) {
            hold.release(now);
        }
    }

    /// Enters the phase that lasts until the response is out.
    fn respond(self: Pin<&mut Self>) {
        let discarded = self.discarding.discarded();
        let phase = Phase::responding(&self.handle, self.version, &*self.response, discarded);
        self.go_on(phase);
    }

    /// Returns whether the response has made progress since its limits began.
    fn has_progressed(&self) -> bool {
        matches!(self.phase, Phase::Responding { taken, .. } if taken != self.response.parts_taken())
    }

    /// Takes a slot for the stream, because its response is out.
    fn take_slot(mut self: Pin<&mut Self>, cx: &Context<'_>) {
        let settings = self.streams().settings;
        let now = Instant::now().into_std();
        let sent = self.discarding.discarded();
        let slot = self.streams().slots.take(now, self.peer.id(), sent, cx);
        let phase = match slot {
            Some((_slot, standing)) => {
                self.as_mut().project().discarding.compete(standing);
                let bounds = settings.bounds_after(self.discarding.discarded());
                Phase::Responded { _slot, bounds }
            }
            None => Phase::Held,
        };
        self.go_on(phase);
    }
}

impl<B: Body + Unpin> StreamLingerTask<B> {
    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<StopReason> {
        let bounds = self.bounds();
        let this = self.project();
        if !matches!(this.phase, Phase::Held) {
            if let Poll::Ready(end) = this.rest.poll_discard(cx, this.discarding, &bounds) {
                return Poll::Ready(end);
            }
        }
        this.timer.poll_over(cx, this.discarding, &bounds)
    }
}

impl<B: Body + Unpin> Future for StreamLingerTask<B> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let is_answering = matches!(self.phase, Phase::Gated { .. } | Phase::Responding { .. });
        if is_answering && self.response.poll_taken_whole(cx).is_ready() {
            self.as_mut().take_slot(cx);
        }
        loop {
            if self.discarding.is_evicted() {
                *self.project().end = Some(StopReason::Evicted);
                return Poll::Ready(());
            }
            let end = ready!(self.as_mut().poll_end(cx));
            let end = match (&self.phase, end) {
                (_, StopReason::Completed | StopReason::Reset) => end,
                (Phase::Gated { .. }, _) => {
                    self.as_mut().respond();
                    continue;
                }
                (Phase::Responding { .. }, _) if self.has_progressed() => {
                    self.as_mut().respond();
                    continue;
                }
                // There are no slots.
                (Phase::Held, _) => StopReason::Evicted,
                (Phase::Responding { .. } | Phase::Responded { .. }, end) => end,
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
    use crate::{
        delivery::{DeliveryConfig, StreamLinger, handoff::BodyHandoff},
        observe::Observer,
    };

    struct Upload {
        sender: Sender<Bytes, Infallible>,
        response: Arc<dyn ResponseProgress>,
        connection: Weak<Connection>,
    }

    /// Starts to read a stream whose service has responded, before the server has the response.
    fn gated() -> Upload {
        upload(StreamLinger::new(), true)
    }

    fn upload(settings: StreamLinger, is_gated: bool) -> Upload {
        let handle = DeliveryHandle::new(&DeliveryConfig::new().stream_linger(settings));
        upload_to(&handle, is_gated)
    }

    /// Starts to read an HTTP/3 stream with the default limits, of which a part has arrived.
    async fn http3(arrived: &[usize], is_whole: bool) -> (Upload, Arc<DeliveryHandle>, Ends) {
        let ends = Ends::default();
        let config = DeliveryConfig::new().observer(ends.observer());
        let handle = DeliveryHandle::new(&config);
        let (mut sender, body) = Channel::new(arrived.len() + 1);
        for length in arrived {
            sender.send_data(vec![0; *length].into()).await.unwrap();
        }
        let response = BodyHandoff::<Channel<Bytes, Infallible>, ()>::new().progress();
        let rest = UnreadBody::new(body, false, None);
        let spare = if is_whole {
            drop(sender);
            Channel::<Bytes, Infallible>::new(1).0
        } else {
            sender
        };
        let progress = Arc::clone(&response);
        linger(
            &handle,
            Multiplexed::Http3,
            rest,
            progress,
            None,
            Peer::default(),
        );
        let upload = Upload {
            sender: spare,
            response,
            connection: Weak::new(),
        };
        (upload, handle, ends)
    }

    /// The streams that have ended: their bytes, and why.
    #[derive(Clone, Default)]
    struct Ends(Arc<Mutex<Vec<(u64, StopReason)>>>);

    impl Ends {
        fn observer(&self) -> Observer {
            let Self(ends) = self.clone();
            Observer::new(move |event: &Event<'_>| {
                if let Event::StreamLingered(lingered) = event {
                    ends.lock().unwrap().push((lingered.bytes, lingered.reason));
                }
            })
        }

        fn seen(&self) -> Vec<(u64, StopReason)> {
            self.0.lock().unwrap().clone()
        }
    }

    #[tokio::test]
    async fn http3_body_that_has_arrived_needs_no_task() {
        for (arrived, ends) in [
            (&[][..], &[][..]),
            (&[3000, 500], &[(3500, StopReason::Completed)]),
        ] {
            let (_, handle, seen) = http3(arrived, true).await;
            assert_eq!(handle.reading(), 0);
            assert_eq!(seen.seen(), ends);
        }
        let (_upload, handle, seen) = http3(&[3000], false).await;
        assert_eq!(handle.reading(), 1);
        assert_eq!(seen.seen(), []);
    }

    /// 30 s, or 10 min above 128 KiB/s, and 5 s of silence.
    #[tokio::test(start_paused = true)]
    async fn http3_stream_lingers_like_a_connection() {
        let (mut upload, handle, ends) = http3(&[1000], false).await;
        upload.response.taken_whole();
        for _ in 0..7 {
            assert!(send(&mut upload).await);
            sleep(Duration::from_millis(4_200)).await;
        }
        assert_eq!(handle.reading(), 1);
        sleep(Duration::from_millis(700)).await;
        assert_eq!(ends.seen(), [(8_000, StopReason::Timeout)]);

        let (mut upload, handle, _) = http3(&[], false).await;
        upload.response.taken_whole();
        let fast = vec![0; 200 << 10];
        for _ in 0..599 {
            upload.sender.send_data(fast.clone().into()).await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(handle.reading(), 1);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(handle.reading(), 0);

        let (mut upload, handle, ends) = http3(&[], false).await;
        upload.response.taken_whole();
        assert!(send(&mut upload).await);
        sleep(Duration::from_millis(4_900)).await;
        assert_eq!(handle.reading(), 1);
        sleep(Duration::from_millis(200)).await;
        assert_eq!(ends.seen(), [(1_000, StopReason::IdleTimeout)]);
    }

    fn upload_to(handle: &Arc<DeliveryHandle>, is_gated: bool) -> Upload {
        let (sender, body) = Channel::new(1);
        let connection = Arc::new(Connection::default());
        let response = BodyHandoff::<Channel<Bytes, Infallible>, ()>::new().progress();
        let rest = UnreadBody::new(body, false, None);
        let gate = is_gated.then_some(&connection);
        let progress = Arc::clone(&response);
        linger(
            handle,
            Multiplexed::Http2,
            rest,
            progress,
            gate,
            Peer::default(),
        );
        Upload {
            sender,
            response,
            connection: Arc::downgrade(&connection),
        }
    }

    async fn send(upload: &mut Upload) -> bool {
        let sent = upload.sender.send_data(vec![0; 1000].into()).await;
        sleep(Duration::from_micros(1)).await;
        sent.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_outlives_its_hold() {
        let mut upload = gated();
        assert!(send(&mut upload).await);
        assert!(upload.connection.upgrade().is_some());
        // The timer fires and bytes arrive before the task is polled.
        upload.sender.send_data(Bytes::from("more")).await.unwrap();
        advance(write_gate::HOLD).await;
        assert!(send(&mut upload).await && send(&mut upload).await);
        assert!(upload.connection.upgrade().is_none(), "it is let go of");
        // From the response on, the stream lingers for 2 s.
        sleep(Duration::from_secs(10)).await;
        upload.response.taken_whole();
        sleep(Duration::from_millis(950)).await;
        assert!(send(&mut upload).await);
        sleep(Duration::from_millis(950)).await;
        assert!(send(&mut upload).await);
        sleep(Duration::from_millis(200)).await;
        assert!(!send(&mut upload).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_response_opens_the_gate() {
        let mut upload = gated();
        upload.response.taken_whole();
        assert!(send(&mut upload).await);
        assert!(upload.connection.upgrade().is_none());
    }

    /// All streams share the connection's window, so a stream has to be read to release it.
    #[tokio::test(start_paused = true)]
    async fn bytes_before_the_response_are_read_and_do_not_count() {
        for at_once in [0, 64] {
            let settings = StreamLinger::new().max_bytes(10_000).max_streams(at_once);
            let mut upload = upload(settings, false);
            for _ in 0..9 {
                assert!(send(&mut upload).await);
            }
            upload.response.taken_whole();
            sleep(Duration::from_micros(1)).await;
            let mut sent = 0;
            while send(&mut upload).await {
                sent += 1;
            }
            // Without slots, one frame waits in the channel, and nothing is read.
            let expected = if at_once == 0 { 1..=2 } else { 10..=12 };
            assert!(expected.contains(&sent), "{sent}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silent_stream_ends_at_idle_timeout() {
        let settings = StreamLinger::new().timeout(Duration::from_secs(20));
        let mut upload = upload(settings, false);
        upload.response.taken_whole();
        assert!(send(&mut upload).await);
        sleep(Duration::from_millis(990)).await;
        assert!(send(&mut upload).await);
        sleep(Duration::from_millis(1_010)).await;
        assert!(!send(&mut upload).await);
    }

    #[tokio::test(start_paused = true)]
    async fn stream_beyond_slots_evicts_slowest() {
        let settings = StreamLinger::new().max_streams(2);
        let ends = Ends::default();
        let handle = DeliveryHandle::new(
            &DeliveryConfig::new()
                .stream_linger(settings)
                .observer(ends.observer()),
        );
        let mut uploads = [9, 5, 1].map(|bytes| (upload_to(&handle, false), bytes));
        for (upload, bytes) in &mut uploads {
            upload.response.taken_whole();
            sleep(Duration::from_millis(1)).await;
            for _ in 0..*bytes {
                send(upload).await;
            }
        }
        assert_eq!(ends.seen(), [(5_000, StopReason::Evicted)]);
        assert_eq!(handle.reading(), 2);
    }
}
