//! The parts that only discard, under arbitrary clocks, limits and clients.

mod lingers;
mod reading;

use arbitrary::Arbitrary;

use crate::paused;

#[derive(Arbitrary, Debug)]
pub enum Input {
    Lingers(lingers::Input),
    Reading(reading::Input),
}

pub fn run(input: Input) {
    match input {
        Input::Lingers(input) => paused(lingers::drive(input)),
        Input::Reading(input) => paused(reading::drive(&input)),
    }
}
