//! Checks that the compile errors of wrong code say what to do instead. Each piece of code is
//! compiled in a separate package.

use std::{env, fs, path::Path, process::Command};

/// A program that must not compile, and the features that it enables.
struct Wrong {
    name: &'static str,
    features: &'static [&'static str],
    code: &'static str,
    /// Parts of the expected compiler message.
    says: &'static [&'static str],
}

const WRONG: &[Wrong] = &[
    Wrong {
        name: "axum_layer_without_feature",
        features: &[],
        code: "let _ = BodyGuardLayer::axum(4 * MIB).hide_limit();",
        says: &["this needs the feature `axum` of tower-bodyguard"],
    },
    Wrong {
        name: "serve_without_feature",
        features: &[],
        code: "tower_bodyguard::axum::serve((), ());",
        says: &["gated behind the `axum` feature"],
    },
    Wrong {
        name: "methods_without_features",
        features: &[],
        code: "
            let linger = Linger::default();
            linger.listener(());
            linger.acceptor();
            linger.incoming(());
            Observer::tracing();
            Observer::metrics();
        ",
        says: &[
            "this needs the feature `axum` of tower-bodyguard",
            "this needs the feature `axum-server` of tower-bodyguard",
            "this needs the feature `tonic` of tower-bodyguard",
            "this needs the feature `tracing` of tower-bodyguard",
            "this needs the feature `metrics` of tower-bodyguard",
        ],
    },
    Wrong {
        name: "config_after_the_handle",
        features: &[],
        code: "let _ = Linger::default().idle_timeout(std::time::Duration::ZERO);",
        says: &["no method named `idle_timeout`"],
    },
    Wrong {
        name: "response_that_is_none",
        features: &["axum"],
        code: "let _ = BodyGuardLayer::axum(MIB).refusal_response(\"too large\");",
        says: &["or a closure `|refusal: &Refusal| -> impl IntoResponse`"],
    },
];

/// There are few feature sets. Each is a package, with its programs as binaries.
#[test]
fn wrong_code_says_what_to_do() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_errors");
    for features in [&[][..], &["axum"]] {
        let folder = package.join(features.join("-") + "-features");
        let bins = folder.join("src/bin");
        fs::create_dir_all(&bins).unwrap();
        let manifest = format!(
            "[package]\nname = \"wrong\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
             [dependencies]\ntower-bodyguard = {{ path = {root:?}, features = {features:?} }}\n\n\
             [workspace]\n",
        );
        fs::write(folder.join("Cargo.toml"), manifest).unwrap();
        // Uses the same dependency versions, which are already downloaded.
        if root.join("Cargo.lock").exists() {
            fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
        }
        for wrong in WRONG.iter().filter(|wrong| wrong.features == features) {
            let code = format!(
                "#![allow(unused_imports)]\nuse tower_bodyguard::*;\nfn main() {{ {} }}\n",
                wrong.code
            );
            fs::write(bins.join(wrong.name).with_extension("rs"), code).unwrap();
            let mut cargo = Command::new(env::var("CARGO").unwrap());
            cargo.args(["check", "--quiet", "--bin", wrong.name]);
            cargo.current_dir(&folder);
            cargo.env("CARGO_TARGET_DIR", package.join("target"));
            let output = cargo.output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success(), "{} compiles", wrong.name);
            for says in wrong.says {
                assert!(said.contains(says), "{}: {says:?} in\n{said}", wrong.name);
            }
        }
    }
}
