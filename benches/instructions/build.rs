//! Tells the program which compiler built it, because counts are only comparable within a version.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").expect("cargo sets it");
    let output = Command::new(rustc).arg("--version").output();
    let text = String::from_utf8(output.expect("rustc runs").stdout).expect("a text");
    // As in `rustc 1.95.0 (59807616e 2026-04-14)`.
    let version = text.split_whitespace().nth(1).expect("a version");
    println!("cargo::rustc-env=RUSTC_VERSION={version}");
}
