//! Makes `tests/wire/servers.rs` serve over native-tls as well.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(bodyguard_native_tls)");
    println!("cargo::rustc-cfg=bodyguard_native_tls");
}
