//! A socket that follows a script.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
};

use arbitrary::Arbitrary;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use crate::{
    body::{Tail, bytes, drip},
    millis,
};

#[derive(Arbitrary, Clone, Debug)]
enum Came {
    Bytes(u16),
    /// This many times 64 KiB.
    Flood(u8),
    Wait(u16),
    End,
    Reset,
}

#[derive(Arbitrary, Clone, Debug)]
enum Took {
    AtMost(u8),
    Wait(u16),
    Fail,
}

#[derive(Arbitrary, Clone, Debug)]
enum Shut {
    Well,
    After(u16),
    NotConnected,
    Fails,
}

#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct Client {
    came: Vec<Came>,
    tail: Tail,
    took: Vec<Took>,
    shut: Shut,
}

impl Client {
    pub(crate) fn socket(&self, log: Log) -> Socket {
        let mut came: VecDeque<_> = self.came.iter().take(32).cloned().collect();
        let is_end = |came: &Came| matches!(came, Came::End | Came::Reset);
        let end = came.iter().position(is_end);
        came.truncate(end.map_or(came.len(), |end| end + 1));
        if (end, self.tail) == (None, Tail::End) {
            came.push_back(Came::End);
        }
        Socket {
            came,
            tail: self.tail,
            took: self.took.iter().take(16).cloned().collect(),
            shut: self.shut.clone(),
            reading: None,
            writing: None,
            closing: None,
            idle_polls: 0,
            log,
        }
    }
}

/// A record of the calls to a socket.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Logged>>);

#[derive(Debug, Default)]
pub(crate) struct Logged {
    pub(crate) came: Vec<(Instant, u64)>,
    pub(crate) has_ended: bool,
    pub(crate) has_failed: bool,
    pub(crate) shut: bool,
    pub(crate) dropped: Option<Instant>,
}

impl Log {
    pub(crate) fn logged(&self) -> MutexGuard<'_, Logged> {
        self.0.lock().expect("no panic within")
    }
}

type Timer = Option<Pin<Box<Sleep>>>;

pub(crate) struct Socket {
    came: VecDeque<Came>,
    tail: Tail,
    took: VecDeque<Took>,
    shut: Shut,
    reading: Timer,
    writing: Timer,
    closing: Timer,
    /// Polls in a row that found nothing.
    idle_polls: u32,
    log: Log,
}

fn until(timer: &mut Timer, cx: &mut Context<'_>) -> Poll<()> {
    if let Some(waiting) = timer {
        ready!(waiting.as_mut().poll(cx));
        *timer = None;
    }
    Poll::Ready(())
}

fn after(pause: std::time::Duration) -> Timer {
    Some(Box::pin(sleep(pause)))
}

impl Socket {
    fn next(&mut self, cx: &mut Context<'_>, room: u16) -> Poll<io::Result<u16>> {
        loop {
            let waited = self.reading.is_some();
            ready!(until(&mut self.reading, cx));
            if waited && self.came.is_empty() {
                if let Tail::Drip { length, .. } = self.tail {
                    return Poll::Ready(Ok(u16::from(length.max(1)).min(room)));
                }
            }
            match self.came.front_mut() {
                Some(Came::Bytes(left)) if *left > 0 => {
                    let part = room.min(*left);
                    *left -= part;
                    return Poll::Ready(Ok(part));
                }
                Some(Came::Flood(left)) if *left > 0 => {
                    *left -= 1;
                    return Poll::Ready(Ok(room));
                }
                Some(Came::End) => return Poll::Ready(Ok(0)),
                Some(Came::Reset) => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Some(Came::Wait(pause)) => {
                    self.reading = after(millis(*pause));
                    self.came.pop_front();
                }
                Some(Came::Bytes(_) | Came::Flood(_)) => {
                    self.came.pop_front();
                }
                None => match self.tail {
                    Tail::Drip { pause, .. } => self.reading = after(drip(pause)),
                    Tail::Silence(_) | Tail::End => return Poll::Pending,
                },
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.idle_polls += 1;
        assert!(self.idle_polls < 4096, "a busy loop");
        let room = u16::try_from(buf.remaining()).unwrap_or(u16::MAX);
        let next = ready!(self.next(cx, room));
        let mut logged = self.log.logged();
        match next {
            Ok(0) => logged.has_ended = true,
            Ok(length) => {
                logged.came.push((Instant::now(), length.into()));
                buf.put_slice(&bytes(length));
            }
            Err(error) => {
                logged.has_failed = true;
                return Poll::Ready(Err(error));
            }
        }
        drop(logged);
        self.idle_polls = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(until(&mut self.writing, cx));
            match self.took.pop_front() {
                None => return Poll::Ready(Ok(buf.len())),
                Some(Took::AtMost(most)) => {
                    return Poll::Ready(Ok(buf.len().min(usize::from(most.max(1)))));
                }
                Some(Took::Wait(pause)) => self.writing = after(millis(pause)),
                Some(Took::Fail) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.log.logged().shut = true;
        ready!(until(&mut self.closing, cx));
        match self.shut {
            Shut::Well => Poll::Ready(Ok(())),
            Shut::After(pause) => {
                self.shut = Shut::Well;
                self.closing = after(millis(pause));
                self.poll_shutdown(cx)
            }
            Shut::NotConnected => {
                let mut logged = self.log.logged();
                (logged.has_ended, logged.has_failed) = (true, true);
                Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
            }
            Shut::Fails => {
                self.log.logged().has_failed = true;
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Ok(mut logged) = self.log.0.lock() {
            logged.dropped = Some(Instant::now());
        }
    }
}
