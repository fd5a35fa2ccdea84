//! Has the modules take loom's atomics and locks in the place of std's. The cfg is one of
//! our own, for loom's dependencies know `loom` itself.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(bodyguard_loom)");
    println!("cargo::rustc-cfg=bodyguard_loom");
    println!("cargo::rustc-check-cfg=cfg(feature, values(\"axum\"))");
}
