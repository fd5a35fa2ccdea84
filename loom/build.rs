//! Compiles the modules with loom's atomics and locks instead of std's. The cfg has our own name,
//! because loom's dependencies use `loom` themselves.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(bodyguard_loom)");
    println!("cargo::rustc-cfg=bodyguard_loom");
    println!("cargo::rustc-check-cfg=cfg(feature, values(\"axum\"))");
}
