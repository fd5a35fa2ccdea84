//! A budget in bytes for all request bodies of a process.

pub(crate) mod config;
mod reservation;
pub(crate) mod shared;
mod waiting;

pub(crate) use self::shared::BodyBudget;
pub(super) use self::{reservation::Reservation, shared::Client, waiting::Waiting};

/// The bytes that one permit of the semaphore stands for.
const UNIT: u64 = 1024;

/// The units that a body of unknown length takes at a time: more than most frames have.
const STEP: u64 = 64;

/// A semaphore hands out so many permits at a time, at most.
const MAX_UNITS: u64 = u32::MAX as u64;

/// Returns the units that so many bytes take.
fn units(bytes: u64) -> u64 {
    bytes.div_ceil(UNIT).max(1)
}

/// There is no room.
#[derive(Debug)]
pub(super) struct NoRoom;
