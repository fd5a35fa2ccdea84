//! Checks what the published packages contain, and what their manifests say.
//!
//! `packages/NAME.txt` has the files of a package. If a change is on purpose, commit the list that
//! the failed test prints.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pulldown_cmark::{Event, Parser, Tag};
use regex::Regex;
use serde_json::Value;
use testkit::outside::{repository, succeed};

/// The published packages, with their folders.
const PACKAGES: [(&str, &str); 3] = [
    ("tower-bodyguard", ""),
    ("tower-bodyguard-h3", "h3"),
    ("early-response-probe", "probe"),
];

/// Files that cargo writes, and leaves out outside of a git repository.
const WRITTEN_BY_CARGO: [&str; 3] = [".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml.orig"];

/// The extensions of pictures.
const PICTURES: [&str; 4] = ["gif", "jpg", "png", "svg"];

fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(repository(""));
    cargo
}

fn packaged_files(package: &str) -> BTreeSet<String> {
    let mut list = cargo();
    list.args(["package", "--list", "--allow-dirty", "--offline", "--quiet"]);
    let files = succeed(list.args(["--package", package])).unwrap();
    let files = files
        .lines()
        .filter(|file| !WRITTEN_BY_CARGO.contains(file));
    // Windows separates folders by a backslash.
    files.map(|file| file.replace('\\', "/")).collect()
}

#[test]
fn packages_contain_the_committed_files() {
    for (package, _) in PACKAGES {
        let list = repository("tests/layers/packages").join(format!("{package}.txt"));
        let committed = fs::read_to_string(&list).unwrap_or_default();
        let committed: BTreeSet<String> = committed.lines().map(str::to_owned).collect();
        let packaged = packaged_files(package);
        let added: Vec<_> = packaged.difference(&committed).collect();
        let missing: Vec<_> = committed.difference(&packaged).collect();
        let new: Vec<_> = packaged.iter().map(String::as_str).collect();
        assert!(
            added.is_empty() && missing.is_empty(),
            "{}: added {added:?}, missing {missing:?}. If that is on purpose, commit this list:\n{}",
            list.display(),
            new.join("\n")
        );
    }
}

#[test]
fn packages_contain_their_licence_and_readme() {
    for (package, _) in PACKAGES {
        let files = packaged_files(package);
        for file in ["LICENSE", "README.md", "src/lib.rs"] {
            assert!(files.contains(file), "{package} without {file}");
        }
    }
}

/// The registry and docs.rs show a manifest's links, and search by its keywords.
#[test]
fn manifests_have_what_registries_show() {
    let mut metadata = cargo();
    metadata.args([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
        "--offline",
    ]);
    let metadata: Value = serde_json::from_str(&succeed(&mut metadata).unwrap()).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    for (name, _) in PACKAGES {
        let package = packages.iter().find(|package| package["name"] == name);
        let package = package.unwrap();
        assert_eq!(package["license"], "MIT", "{name}");
        assert_eq!(package["readme"], "README.md", "{name}");
        assert!(package["rust_version"].is_string(), "{name}");
        // The limits of the registry.
        let keywords = package["keywords"].as_array().unwrap();
        assert!((1..=5).contains(&keywords.len()), "{name}: {keywords:?}");
        let keywords = keywords.iter().map(|keyword| keyword.as_str().unwrap());
        let is_allowed = |keyword: &str| keyword.len() <= 20 && keyword.is_ascii();
        assert!(keywords.into_iter().all(is_allowed), "{name}");
        let categories = package["categories"].as_array().unwrap();
        assert!((1..=5).contains(&categories.len()), "{name}");
        // A link that leads nowhere is worse than none.
        for link in ["repository", "homepage", "documentation"] {
            let link = package[link].as_str().unwrap_or("https://");
            let is_placeholder = ["example", "TODO", "your-", "localhost"];
            let is_placeholder = is_placeholder.iter().any(|part| link.contains(part));
            assert!(
                link.starts_with("https://") && !is_placeholder,
                "{name}: {link}"
            );
        }
    }
}

fn pictures(page: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(page).unwrap();
    let source = Regex::new(r#"\b(?:src|srcset)="([^"]*)""#).unwrap();
    let mut pictures = BTreeSet::new();
    for event in Parser::new(&text) {
        match event {
            Event::Start(Tag::Image { dest_url, .. }) => {
                pictures.insert(dest_url.into_string());
            }
            Event::Html(html) | Event::InlineHtml(html) => {
                let found = source.captures_iter(&html);
                pictures.extend(found.map(|found| found[1].to_owned()));
            }
            _ => {}
        }
    }
    pictures
}

/// The registry resolves the links of a README against the repository. docs.rs shows the guides, and
/// does not serve the pictures of a package.
#[test]
fn packaged_pictures_are_those_of_the_readme() {
    for (package, folder) in PACKAGES {
        let shown = pictures(&repository(folder).join("README.md"));
        let files = packaged_files(package);
        let is_picture = |file: &&String| {
            let extension = Path::new(file).extension().and_then(OsStr::to_str);
            extension.is_some_and(|extension| PICTURES.contains(&extension))
        };
        let packaged: BTreeSet<String> = files.iter().filter(is_picture).cloned().collect();
        assert_eq!(packaged, shown, "{package}");
    }
    for guide in guides() {
        let page = repository("docs").join(&guide);
        assert!(
            pictures(&page).is_empty(),
            "docs.rs shows no pictures of {guide:?}"
        );
    }
}

/// Returns the pages that the crate's documentation includes.
fn guides() -> Vec<PathBuf> {
    let library = fs::read_to_string(repository("src/lib.rs")).unwrap();
    let include = Regex::new(r#"include_str!\("\.\./docs/(\w+\.md)"\)"#).unwrap();
    let found = include.captures_iter(&library);
    let guides: Vec<_> = found.map(|found| PathBuf::from(&found[1])).collect();
    assert!(guides.len() > 10, "{guides:?}");
    guides
}

/// `docs/links.html` makes the links between guides work on docs.rs.
#[test]
fn each_guide_is_known_to_the_script_of_docs_rs() {
    let script = fs::read_to_string(repository("docs/links.html")).unwrap();
    let (_, known) = script.split_once("PAGES = /^(").unwrap();
    let (known, _) = known.split_once(')').unwrap();
    let known: BTreeSet<String> = known.split('|').map(str::to_owned).collect();
    let guides = guides().into_iter();
    let guides: BTreeSet<String> = guides
        .map(|guide| guide.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(known, guides);
}

/// `cargo package` builds the library only, and not the examples that users copy.
#[test]
fn packaged_examples_have_their_modules() {
    let files = packaged_files("tower-bodyguard");
    let module = Regex::new(r#"(?m)^(?:#\[path = "([^"]+)"\]\n)?mod (\w+);"#).unwrap();
    let mut found = 0;
    for example in files.iter().filter(|file| file.starts_with("examples/")) {
        let text = fs::read_to_string(repository(example)).unwrap();
        let folder = Path::new(example).parent().unwrap();
        for declared in module.captures_iter(&text) {
            let file = match declared.get(1) {
                Some(path) => path.as_str().to_owned(),
                None => format!("{}.rs", &declared[2]),
            };
            let (folder, file) = match file.strip_prefix("../") {
                Some(file) => (folder.parent().unwrap(), file.to_owned()),
                None => (folder, file),
            };
            let file = format!("{}/{file}", folder.display());
            assert!(files.contains(&file), "{example} needs {file}");
            found += 1;
        }
    }
    assert!(found > 0, "no example has a module");
}
