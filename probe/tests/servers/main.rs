//! Probes servers that are known to be good or bad.

mod broken;
mod faults;
mod known;
mod program;
mod programs;
mod stage;

fn main() {
    testkit::outside::run(&[
        ("faults", faults::trials),
        ("known", known::trials),
        ("program", program::trials),
    ]);
}
