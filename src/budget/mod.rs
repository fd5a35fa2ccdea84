//! Decides when discarding stops: pure functions of limits and progress, and a timer that drives
//! them.

mod bounds;
mod deadline_timer;
mod late_timer;
mod stall;

pub use self::bounds::StopReason;
pub(crate) use self::{
    bounds::{Bounds, Discarding, Good, Least},
    deadline_timer::DeadlineTimer,
    late_timer::{LateTimer, MAX_WAIT},
    stall::{STALL_TIMEOUT, STALL_TIMEOUT_AT_SHUTDOWN, Stall},
};
