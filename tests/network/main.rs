//! Tests that start their own executable again in another role: as a server, also with little
//! memory, or as clients in another network namespace.

#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod vanish;
mod wan;

fn main() {
    #[cfg(target_os = "linux")]
    if vanish::plays_a_role() || memory::plays_a_role() {
        return;
    }
    if wan::plays_a_role() {
        return;
    }
    testkit::outside::run(&[
        #[cfg(target_os = "linux")]
        ("vanish", vanish::trials),
        #[cfg(target_os = "linux")]
        ("memory", memory::trials),
        ("wan", wan::trials),
    ]);
}
