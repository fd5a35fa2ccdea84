//! A budget in bytes for all request bodies of a process.
//!
//! A body that has been read in part takes more room at once or is refused, and never waits.
//! Only bodies of which nothing has been read wait, in order. So no two bodies wait for each other.

pub(crate) mod config;
mod nesting;
mod reservation;
mod room;
pub(crate) mod shared;
mod wait;

pub(crate) use self::shared::BodyBudget;
pub(super) use self::{nesting::Holding, reservation::Reservation, shared::Client, wait::Wait};

/// The bytes of one unit, in which room is counted.
const UNIT: u64 = 1024;

/// The units that a body of unknown length takes at a time: more than most frames have.
const STEP: u64 = 64;

/// Returns the units that so many bytes take.
fn units(bytes: u64) -> u64 {
    bytes.div_ceil(UNIT).max(1)
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// There may be room later.
    Now,
    /// The body is longer than the whole budget, or than its client's share.
    Ever,
}
