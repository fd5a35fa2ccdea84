//! When discarding stops: pure limits and progress, and the timer for them.

mod bounds;
mod deadline_timer;
mod stall;

pub use self::bounds::StopReason;
pub(crate) use self::{
    bounds::{Bounds, Discarding, Good, Least},
    deadline_timer::DeadlineTimer,
    stall::{STALL_TIMEOUT, STALL_TIMEOUT_AT_SHUTDOWN, Stall},
};
