//! The fuzz targets. Each module has an input, a `run`, and an independent model of what must hold.

pub mod bodies;
mod body;
pub mod connection;
pub mod head;
pub mod machines;
mod socket;
mod wire;

use std::{future::Future, time::Duration};

use arbitrary::Arbitrary;

/// Tokio's timers fire at the next millisecond.
const SLACK: Duration = Duration::from_millis(3);

/// Runs on one thread, with a clock that moves only when every task waits.
fn paused<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime of one thread").block_on(future)
}

fn millis(millis: impl Into<u64>) -> Duration {
    Duration::from_millis(millis.into())
}

/// A duration for a timeout.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Span {
    Zero,
    Millis(u16),
    Seconds(u8),
    Any(u64, u32),
    Longest,
}

impl Span {
    fn get(self) -> Duration {
        match self {
            Self::Zero => Duration::ZERO,
            Self::Millis(span) => millis(span),
            Self::Seconds(span) => Duration::from_secs(span.into()),
            Self::Any(seconds, nanoseconds) => Duration::from_secs(seconds)
                .saturating_add(Duration::from_nanos(nanoseconds.into())),
            Self::Longest => Duration::MAX,
        }
    }
}

/// A number that is usually small enough to be reached.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Number {
    Small(u16),
    Large(u32),
    Any(u64),
}

impl Number {
    fn get(self) -> u64 {
        match self {
            Self::Small(number) => number.into(),
            Self::Large(number) => number.into(),
            Self::Any(number) => number,
        }
    }
}
