//! Events, the observer for all parts of the crate, counters, and adapters for `tracing` and
//! `metrics`.

mod counters;
mod event;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "tracing")]
mod tracing;

pub use self::{
    counters::{Counters, CountersSnapshot, DiscardedCount, RefusedCount},
    event::{Discarded, Event, Observer},
};
