//! A request body that follows a script. Its size hint and its end are true.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
    time::Duration,
};

use arbitrary::Arbitrary;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::millis;

static BYTES: [u8; 1 << 16] = [b'.'; 1 << 16];

pub(crate) fn bytes(length: u16) -> Bytes {
    Bytes::from_static(&BYTES[..usize::from(length)])
}

/// Returns the pause between two drips. A client that sends without a pause would stop the clock.
pub(crate) fn drip(pause: u8) -> Duration {
    millis(50u8) * (u32::from(pause) + 1)
}

#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Step {
    Data(u16),
    /// A length near the limit.
    Small(u8),
    Wait(u16),
    Yield,
    Trailers,
    Fail,
}

impl Step {
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Data(length) => u64::from(*length),
            Self::Small(length) => u64::from(*length),
            _ => 0,
        }
    }

    fn is_last(&self) -> bool {
        matches!(self, Self::Trailers | Self::Fail)
    }
}

/// The part that follows the steps if none of them is the last.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    End,
    /// This many bytes are promised and never arrive.
    Silence(u8),
    /// A frame after each pause, without end.
    Drip {
        pause: u8,
        length: u8,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    None,
    Exact,
    Loose { below: u8, above: u8 },
}

#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    pub(crate) tail: Tail,
    pub(crate) hint: Hint,
}

impl Script {
    pub(crate) fn is_exact(&self) -> bool {
        self.hint == Hint::Exact
    }

    /// Returns the steps that are played: up to the first one that ends the body, and at most 64.
    pub(crate) fn played(&self) -> (VecDeque<Step>, Tail) {
        let mut steps: VecDeque<_> = self.steps.iter().take(64).cloned().collect();
        let last = steps.iter().position(Step::is_last);
        steps.truncate(last.map_or(steps.len(), |last| last + 1));
        let tail = match (last, self.tail) {
            (None, tail) if tail != Tail::Silence(0) => tail,
            _ => Tail::End,
        };
        (steps, tail)
    }

    pub(crate) fn source(&self) -> (Source, Seen) {
        let (steps, tail) = self.played();
        let seen = Seen::default();
        let source = Source {
            left: steps.iter().map(Step::length).sum(),
            steps,
            tail,
            hint: self.hint,
            timer: None,
            seen: seen.clone(),
        };
        (source, seen)
    }
}

/// A record of the polls of a [`Source`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) polls: u64,
    /// The number of polls that found a frame.
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) is_over: bool,
    pub(crate) dropped: Option<Instant>,
}

impl Seen {
    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().expect("no panic within")
    }
}

pub(crate) struct Source {
    steps: VecDeque<Step>,
    tail: Tail,
    hint: Hint,
    /// The remaining bytes of the steps' data.
    left: u64,
    timer: Option<Pin<Box<Sleep>>>,
    seen: Seen,
}

/// How many polls in a row may find nothing.
const IDLE_POLLS: u64 = 4096;

impl Body for Source {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        {
            let mut told = self.seen.told();
            told.polls += 1;
            assert!(!told.is_over, "polled after its end");
            assert!(told.polls < told.frames * 4 + IDLE_POLLS, "a busy loop");
        }
        loop {
            if let Some(timer) = &mut self.timer {
                ready!(timer.as_mut().poll(cx));
                self.timer = None;
                if let (true, Tail::Drip { length, .. }) = (self.steps.is_empty(), self.tail) {
                    return self.frame(bytes(length.into()));
                }
            }
            match self.steps.pop_front() {
                Some(Step::Wait(pause)) => self.timer = Some(Box::pin(sleep(millis(pause)))),
                Some(Step::Yield) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Step::Fail) => {
                    self.seen.told().is_over = true;
                    return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())));
                }
                Some(Step::Trailers) => {
                    let frame = Frame::trailers(HeaderMap::new());
                    self.seen.told().frames += 1;
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Step::Data(length)) => return self.frame(bytes(length)),
                Some(Step::Small(length)) => return self.frame(bytes(length.into())),
                None => match self.tail {
                    Tail::End => {
                        self.seen.told().is_over = true;
                        return Poll::Ready(None);
                    }
                    Tail::Silence(_) => return Poll::Pending,
                    Tail::Drip { pause, .. } => self.timer = Some(Box::pin(sleep(drip(pause)))),
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let nothing = |step: &Step| matches!(step, Step::Wait(_) | Step::Yield);
        self.hint == Hint::Exact && self.tail == Tail::End && self.steps.iter().all(nothing)
    }

    fn size_hint(&self) -> SizeHint {
        let owed = match self.tail {
            Tail::Silence(owed) => u64::from(owed),
            Tail::End => 0,
            Tail::Drip { .. } => return SizeHint::new(),
        };
        let left = self.left + owed;
        let (lower, upper) = match self.hint {
            Hint::None => return SizeHint::new(),
            Hint::Exact => (left, left),
            Hint::Loose { below, above } => (
                left.saturating_sub(below.into()),
                left.saturating_add(above.into()),
            ),
        };
        let mut hint = SizeHint::new();
        hint.set_upper(upper);
        hint.set_lower(lower);
        hint
    }
}

impl Source {
    fn frame(&mut self, data: Bytes) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let length = data.len() as u64;
        self.left = self.left.saturating_sub(length);
        let mut told = self.seen.told();
        told.frames += 1;
        told.bytes += length;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Ok(mut told) = self.seen.0.lock() {
            told.dropped = Some(Instant::now());
        }
    }
}
