use std::{cell::Cell, ptr};

use super::shared::BodyBudget;
use crate::warn::warn;

thread_local! {
    /// The address of the budget in which the request that runs now has room, or null.
    static HELD: Cell<*const ()> = const { Cell::new(ptr::null()) };
}

/// While this exists, the thread runs a request that has room in a budget.
#[derive(Debug)]
pub(in crate::limit) struct Holding {
    previous: *const (),
}

impl Holding {
    pub(super) fn new(budget: &BodyBudget) -> Self {
        Self {
            previous: HELD.replace(budget.address()),
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        HELD.set(self.previous);
    }
}

/// Reports once that a body needs room in a budget in which an outer layer holds room for it.
pub(super) fn check(budget: &BodyBudget) {
    if HELD.get() == budget.address() && budget.is_first_nesting() {
        warn(format_args!(
            "two nested limit layers have the same budget, so each body takes its room twice, and \
             may wait for itself. Set the budget on one of them"
        ));
    }
}
