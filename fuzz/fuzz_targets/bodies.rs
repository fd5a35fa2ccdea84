#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_bodyguard_fuzz::bodies::{Input, run};

fuzz_target!(|input: Input| run(input));
