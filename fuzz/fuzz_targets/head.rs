#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_bodyguard_fuzz::head::{Input, run};

fuzz_target!(|input: Input| run(input));
