//! Probes servers that are known to be good or bad.

mod broken;
mod broken_http3;
mod faults;
mod http3;
mod known;
mod program;
mod programs;
mod stage;

fn main() {
    testkit::outside::run(&[
        ("faults", faults::trials),
        ("http3", http3::trials),
        ("known", known::trials),
        ("program", program::trials),
    ]);
}
