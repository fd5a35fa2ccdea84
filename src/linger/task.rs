//! Drives [`Discarding`] with a socket and a timer.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
    time::Instant,
};

use super::{
    discard::{CHUNKS_PER_TURN, Found, poll_discard},
    half_close::HalfCloseHold,
    handle::ClosingGuard,
    handoff::{HalfClosed, LingerHandoff, Owes, poll_write_all},
};
use crate::{
    budget::{Bounds, DeadlineTimer, Discarding, StopReason},
    shared::peer::Peer,
};

/// The time to wait for a request that the client sent before it saw the connection close. It is
/// more than a round trip on most paths.
const ANOTHER: Duration = Duration::from_secs(1);

/// Lingers for a socket. Closes its sending side first, if that is open and does not have to wait.
/// Spawns a task only if there is something to wait for.
pub(super) fn linger<T>(left: LingerHandoff<T>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // The socket was dropped outside of a runtime, or while the runtime ends: no task can wait.
    if Handle::try_current().is_err() {
        return;
    }
    let peer = left.peer;
    let peer = peer.unwrap_or_else(|| left.closing.linger().peer_of(&left.io));
    let now = Instant::now().into_std();
    let mut discarding = left.discarding.unwrap_or_else(|| Discarding::new(now));
    discarding.restart(now);
    let mut connection = LingeringConnection {
        io: left.io,
        discarding,
        half_closed: left.half_closed,
        hold: left.hold,
        close_notify: left.close_notify,
        owes: left.owes,
        peer,
        closing: left.closing,
        counted: false,
    };
    // Many clients have closed by now, and need no task.
    let look = &mut Context::from_waker(Waker::noop());
    if connection.poll_discard(look, 1).is_pending() {
        let tasks = Arc::clone(connection.closing.linger().tasks());
        let sent = connection.discarding.discarded();
        tasks.spawn(now, peer.id(), sent, |standing| {
            connection.count();
            connection.discarding.compete(standing);
            LingerTask {
                connection,
                pause: None,
                timer: DeadlineTimer::default(),
            }
        });
    }
}

/// A connection that lingers. If it is dropped before its end, it counts as cut.
struct LingeringConnection<T: AsyncWrite + Unpin> {
    io: T,
    discarding: Discarding,
    half_closed: HalfClosed,
    hold: Option<HalfCloseHold>,
    close_notify: Vec<u8>,
    owes: Owes,
    peer: Peer,
    closing: ClosingGuard,
    counted: bool,
}

impl<T: AsyncWrite + Unpin> LingeringConnection<T> {
    fn count(&mut self) {
        self.closing.linger().started();
        self.counted = true;
    }

    fn end(&mut self, end: StopReason) {
        if std::mem::take(&mut self.counted) {
            self.closing
                .linger()
                .ended(end, &self.discarding, &self.peer);
        }
    }

    /// Closes the sending side, after the `close_notify`. Does nothing once that is done.
    fn poll_half_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.half_closed.0 {
            ready!(poll_write_all(&mut self.io, cx, &mut self.close_notify))?;
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.half_closed = HalfClosed(true);
        }
        Poll::Ready(Ok(()))
    }

    /// Returns the time without a byte after which the half-close follows. `None` if it does not
    /// wait.
    fn half_close_pause(&self) -> Option<Duration> {
        let hold = self.hold?;
        let linger = self.closing.linger();
        let discarded = self.discarding.discarded();
        let timeout = linger.half_close_timeout()?;
        Some(hold.pause(discarded, timeout, linger.is_in_a_hurry()))
    }
}

impl<T: AsyncWrite + Unpin> Drop for LingeringConnection<T> {
    fn drop(&mut self) {
        // The socket is closed next, so there is no time to wait. An error changes nothing.
        let _ = self.poll_half_close(&mut Context::from_waker(Waker::noop()));
        if self.discarding.is_evicted() {
            return self.end(StopReason::Evicted);
        }
        if self.counted {
            self.closing.linger().dropped();
        }
        self.end(StopReason::Shutdown);
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> LingeringConnection<T> {
    /// Discards at most `chunks` chunks. Returns `Pending` if no more bytes are there now, or if
    /// other tasks have to run.
    fn poll_discard(&mut self, cx: &mut Context<'_>, chunks: usize) -> Poll<StopReason> {
        // While the socket has no room for the `close_notify`, the client may have to send before it
        // reads.
        if self.hold.is_none() && matches!(self.poll_half_close(cx), Poll::Ready(Err(_))) {
            return Poll::Ready(StopReason::Reset);
        }
        // One reading of the clock is exact enough for all chunks.
        let now = Instant::now().into_std();
        let bounds = *self.closing.linger().bounds();
        for _ in 0..chunks {
            let end = match ready!(poll_discard(&mut self.io, cx)) {
                Ok(Found::Bytes(bytes)) => self.discarding.received(bytes as u64, now, &bounds),
                Ok(Found::End) => {
                    // The client may still read.
                    self.hold = None;
                    let _ = ready!(self.poll_half_close(cx));
                    Some(StopReason::Completed)
                }
                Err(_) => Some(StopReason::Reset),
            };
            if let Some(end) = end {
                return Poll::Ready(end);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

pin_project! {
    struct LingerTask<T> where T: AsyncWrite, T: Unpin {
        connection: LingeringConnection<T>,
        // The pause that the timer is set for, while the half-close waits.
        pause: Option<Duration>,
        #[pin]
        timer: DeadlineTimer,
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> LingerTask<T> {
    fn poll_end(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<StopReason> {
        let this = self.as_mut().project();
        if let Poll::Ready(end) = this.connection.poll_discard(cx, CHUNKS_PER_TURN) {
            return Poll::Ready(end);
        }
        if this.connection.hold.is_some() {
            return self.poll_held(cx);
        }
        let LingeringConnection {
            discarding,
            closing,
            owes,
            ..
        } = this.connection;
        let bounds = closing.linger().bounds();
        if *owes == Owes::Anything || discarding.discarded() > 0 {
            return this.timer.poll_over(cx, discarding, bounds);
        }
        let bounds = Bounds {
            idle: bounds.idle.min(ANOTHER),
            ..*bounds
        };
        let over = this.timer.poll_over(cx, discarding, &bounds);
        // A client that was silent has lost nothing.
        over.map(|end| match end {
            StopReason::IdleTimeout => StopReason::Completed,
            end => end,
        })
    }

    /// Waits for the half-close, while no more bytes are there. The limits apply meanwhile.
    fn poll_held(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<StopReason> {
        let mut this = self.as_mut().project();
        let connection = this.connection;
        let pause = connection.half_close_pause();
        if *this.pause != pause {
            *this.pause = pause;
            this.timer.set(DeadlineTimer::default());
        }
        let discarding = &connection.discarding;
        let bounds = *connection.closing.linger().bounds();
        let idle = pause.unwrap_or_default().min(bounds.idle);
        let held = Bounds { idle, ..bounds };
        let over = ready!(this.timer.as_mut().poll_over(cx, discarding, &held));
        if over != StopReason::IdleTimeout {
            return Poll::Ready(over);
        }
        connection.hold = None;
        this.timer.set(DeadlineTimer::default());
        self.poll_end(cx)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Future for LingerTask<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let end = ready!(self.as_mut().poll_end(cx));
        self.project().connection.end(end);
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::sleep,
    };

    use super::*;
    use crate::{Linger, LingerConfig};

    fn left<T>(io: T, linger: &Linger) -> LingerHandoff<T> {
        LingerHandoff {
            io,
            peer: None,
            half_closed: HalfClosed(true),
            hold: None,
            close_notify: Vec::new(),
            discarding: None,
            owes: Owes::Anything,
            closing: linger.closing_guard(),
        }
    }

    fn let_go<T>(io: T, linger: &Linger)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        super::linger(left(io, linger));
    }

    /// Returns a client whose server side lingers. Time is paused, and a duplex pipe needs no time
    /// to pass.
    fn lingering(linger: &Linger) -> DuplexStream {
        let (client, server) = duplex(64);
        let_go(server, linger);
        client
    }

    async fn ended(linger: &Linger) {
        while linger.stats().lingering() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ends_when_the_client_closes() {
        let linger = Linger::default();
        let start = Instant::now();
        let mut client = lingering(&linger);
        client.write_all(&[0; 10_000]).await.unwrap();
        drop(client);
        ended(&linger).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        let stats = linger.stats();
        assert_eq!((stats.started, stats.delivered, stats.cut), (1, 1, 0));
        assert_eq!(stats.discarded_bytes, 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn no_task_for_a_client_that_has_closed() {
        let linger = Linger::default();
        let (client, server) = duplex(64);
        drop(client);
        let_go(server, &linger);
        assert_eq!(linger.stats(), Linger::default().stats());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_at_the_idle_bound() {
        let linger = Linger::default();
        let start = Instant::now();
        let mut client = lingering(&linger);
        sleep(Duration::from_secs(3)).await;
        client.write_all(b"still here").await.unwrap();
        // The pipe ends when its other side is dropped.
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(start.elapsed().as_secs(), 8);
        assert_eq!(linger.stats().cut, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_may_ask_again_is_waited_for_briefly() {
        for sends in [false, true] {
            let linger = Linger::default();
            let start = Instant::now();
            let (mut client, server) = duplex(64);
            super::linger(LingerHandoff {
                owes: Owes::PerhapsAnother,
                ..left(server, &linger)
            });
            if sends {
                client.write_all(b"GET /").await.unwrap();
            }
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            // A request that has begun may go on, so the usual timeout applies.
            assert_eq!(start.elapsed().as_secs(), if sends { 5 } else { 1 });
            let stats = linger.stats();
            assert_eq!(
                (stats.delivered, stats.cut),
                if sends { (0, 1) } else { (1, 0) }
            );
        }
    }

    /// A response that fills the pipe.
    const RESPONSE: &[u8] = &[1; 64];

    /// Returns a client whose server side lingers, and has not half-closed yet.
    fn held(linger: &Linger, remaining: Option<u64>) -> DuplexStream {
        let held = held_behind(&[], linger, remaining).now_or_never();
        held.expect("nothing is written")
    }

    /// The same, after a response that the client has not read.
    async fn held_behind(response: &[u8], linger: &Linger, remaining: Option<u64>) -> DuplexStream {
        let (client, mut server) = duplex(64);
        server.write_all(response).await.unwrap();
        super::linger(LingerHandoff {
            half_closed: HalfClosed(false),
            hold: Some(HalfCloseHold { remaining }),
            close_notify: b"close_notify".to_vec(),
            ..left(server, linger)
        });
        client
    }

    /// Reads up to the half-close. Returns how long that took, in milliseconds.
    async fn until_half_close(client: &mut DuplexStream) -> u128 {
        let start = Instant::now();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"close_notify");
        start.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn half_close_follows_a_pause_and_the_linger_goes_on() {
        let linger = Linger::default();
        let mut client = held(&linger, None);
        for _ in 0..5 {
            sleep(Duration::from_millis(900)).await;
            client.write_all(b"more").await.unwrap();
            assert!(client.read(&mut [0]).now_or_never().is_none());
        }
        let start = Instant::now();
        assert_eq!(until_half_close(&mut client).await, 1000);
        assert_eq!(linger.stats().lingering(), 1);
        while linger.stats().lingering() > 0 {
            sleep(Duration::from_millis(100)).await;
        }
        let lasted = start.elapsed().as_secs();
        assert_eq!(lasted, 5, "the idle timeout is as before");
    }

    #[tokio::test(start_paused = true)]
    async fn half_close_follows_the_declared_body() {
        let linger = Linger::default();
        let mut client = held(&linger, Some(10));
        client.write_all(&[0; 9]).await.unwrap();
        sleep(Duration::from_millis(900)).await;
        assert!(client.read(&mut [0]).now_or_never().is_none());
        client.write_all(&[0; 1]).await.unwrap();
        assert_eq!(until_half_close(&mut client).await, 100);
    }

    /// The client reads nothing before it has sent everything, and the pipe is full of the response.
    #[tokio::test(start_paused = true)]
    async fn upload_is_discarded_while_there_is_no_room_for_the_close_notify() {
        let linger = Linger::default();
        let mut client = held_behind(RESPONSE, &linger, Some(10)).await;
        client.write_all(&[0; 10]).await.unwrap();
        sleep(Duration::from_millis(200)).await;
        client.write_all(&[0; 10_000]).await.unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, [RESPONSE, b"close_notify"].concat());
        drop(client);
        ended(&linger).await;
        assert_eq!(linger.stats().discarded_bytes, 10_010);
    }

    /// The client closes its side, and reads only then.
    #[tokio::test(start_paused = true)]
    async fn close_notify_is_sent_to_a_client_that_has_closed_its_side() {
        let linger = Linger::default();
        let mut client = held_behind(RESPONSE, &linger, Some(10)).await;
        client.shutdown().await.unwrap();
        sleep(Duration::from_millis(200)).await;
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, [RESPONSE, b"close_notify"].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn half_close_does_not_wait_for_long_under_pressure_or_in_a_shutdown() {
        let linger = Linger::new(LingerConfig::new().max_connections(3));
        let mut first = held(&linger, Some(10));
        tokio::task::yield_now().await;
        let mut second = held(&linger, Some(10));
        assert_eq!(until_half_close(&mut second).await, 100);
        // The first one's pause had begun before.
        assert_eq!(until_half_close(&mut first).await, 900);

        let linger = Linger::default();
        let parent = linger.child();
        let mut client = held(&parent.child(), Some(10));
        parent.on(async {}).await;
        assert_eq!(until_half_close(&mut client).await, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn half_close_waits_for_at_most_half_of_the_idle_timeout() {
        let config = LingerConfig::new().idle_timeout(Duration::from_millis(500));
        let linger = Linger::new(config);
        assert_eq!(until_half_close(&mut held(&linger, None)).await, 250);
    }

    #[tokio::test(start_paused = true)]
    async fn linger_that_ends_has_half_closed() {
        let linger = Linger::default();
        let mut client = held(&linger, None);
        while client.write_all(b".").await.is_ok() {
            sleep(Duration::from_millis(900)).await;
        }
        assert_eq!(linger.stats().cut, 1);
        assert_eq!(until_half_close(&mut client).await, 0);

        let mut client = held(&linger, None);
        tokio::task::yield_now().await;
        linger.tasks().end();
        assert_eq!(until_half_close(&mut client).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_ends_at_the_total() {
        let linger = Linger::default();
        let start = Instant::now();
        let mut client = lingering(&linger);
        while client.write_all(b".").await.is_ok() {
            sleep(Duration::from_millis(4_900)).await;
        }
        assert_eq!(linger.stats().cut, 1);
        assert_eq!(linger.stats().discarded_bytes, 7);
        assert!(start.elapsed() >= Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_ends_at_the_byte_bound() {
        let linger = Linger::new(LingerConfig::new().max_bytes(100_000));
        let mut client = lingering(&linger);
        while client.write_all(&[0; 64]).await.is_ok() {}
        let discarded = linger.stats().discarded_bytes;
        assert!((100_001..101_000).contains(&discarded), "{discarded}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_leaves_others_their_turn() {
        let linger = Linger::default();
        let endless = tokio::io::join(tokio::io::repeat(0), tokio::io::sink());
        let_go(endless, &linger);
        // On one thread, this loop continues only if the task yields.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(linger.stats().lingering(), 1);
    }

    #[test]
    fn without_a_runtime_the_socket_is_closed() {
        let linger = Linger::default();
        let (_client, server) = duplex(64);
        let_go(server, &linger);
        assert_eq!(linger.stats().started, 0);
    }
}
