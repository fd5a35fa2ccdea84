//! Checks that every test named in the documentation exists. The documentation is the pages and the
//! comments of `src/`.
//!
//! A page names a test as `module::test`, or as `…::test` for the previous module. `…` within a
//! name stands for any text. The modules are those of `tests/`. A name of many words may stand
//! alone, behind the name of its file.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use testkit::outside::repository;

/// Crates and types whose paths look like those of tests.
const FOREIGN: [&str; 9] = [
    "axum",
    "h3",
    "hyper",
    "hyper_util",
    "str",
    "tokio",
    "tower",
    "tower_bodyguard",
    "tower_bodyguard_h3",
];

/// Names with many underscores that belong to other projects.
const FOREIGN_NAMES: [&str; 4] = [
    "__tcp_select_window",
    "max_local_error_reset_streams",
    "per_connection_buffer_limit_bytes",
    "poll_drain_or_close_read",
];

/// A name that stands alone is taken for a test if it has at least this many underscores.
const MANY: usize = 4;

struct Source {
    /// The components of the file's path below the repository, without the extension.
    path: Vec<String>,
    file: String,
    /// The text of the file without comments.
    code: String,
    words: BTreeSet<String>,
}

impl Source {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let lines = text.lines().filter(|line| !is_comment(line));
        let code = lines.collect::<Vec<_>>().join("\n");
        let words = code.split(|c| !is_part_of_a_name(c)).map(str::to_owned);
        let below = path.strip_prefix(repository("")).unwrap();
        let components = below.with_extension("");
        Self {
            file: below.to_str().unwrap().to_owned(),
            path: components
                .iter()
                .map(|component| component.to_str().unwrap().to_owned())
                .collect(),
            words: words.collect(),
            code,
        }
    }

    fn is_of(&self, module: &[&str]) -> bool {
        self.path.windows(module.len()).any(|part| part == module)
    }

    fn has(&self, name: &str) -> bool {
        match name.contains(['…', '-']) {
            true => name.split('…').all(|part| self.code.contains(part)),
            false => self.words.contains(name),
        }
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn is_part_of_a_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the files below a folder of the repository, except build output and installed packages.
fn files(folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![repository(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let is_built = path.ends_with("target") || path.ends_with("node_modules");
            if path.is_dir() && !is_built {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted))
            {
                files.push(path);
            }
        }
    }
    files
}

struct Sources {
    /// The files of `tests/`, here and in `h3/`.
    tests: Vec<Source>,
    /// All other files.
    others: Vec<Source>,
}

impl Sources {
    fn read() -> Self {
        let of = |folder| {
            let files = files(folder, &["rs", "mjs"]);
            files.into_iter().map(|path| Source::read(&path))
        };
        let others = [
            "benches", "examples", "fuzz", "h3/src", "loom", "others", "probe", "src", "testkit",
        ];
        Self {
            tests: ["tests", "h3/tests"].into_iter().flat_map(of).collect(),
            others: others.into_iter().flat_map(of).collect(),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Source> {
        self.tests.iter().chain(&self.others)
    }

    /// Returns the files whose path ends with `file`.
    fn of_file(&self, file: &str) -> impl Iterator<Item = &Source> {
        let suffix = format!("/{file}");
        self.all()
            .filter(move |source| format!("/{}", source.file).ends_with(&suffix))
    }

    /// Returns the files of a test module. Empty if there is no such module.
    fn of_module(&self, module: &[&str]) -> Vec<&Source> {
        let module = match module {
            ["browsers"] => &["browser"],
            module => module,
        };
        let tests = self.tests.iter();
        tests.filter(|source| source.is_of(module)).collect()
    }

    /// Returns how many tests and test files `text` names, and an error for each one that does not
    /// exist.
    fn check(&self, text: &str) -> (usize, Vec<String>) {
        let mut named = 0;
        let mut wrong = Vec::new();
        let mut module: Vec<&str> = Vec::new();
        for code in text.split('`').skip(1).step_by(2) {
            let is_name = |c: char| is_part_of_a_name(c) || "…:-./".contains(c);
            let is_type = code.contains(char::is_uppercase);
            if is_type || code.is_empty() || !code.chars().all(is_name) {
                continue;
            }
            if code.ends_with(".rs") {
                // Only our own paths count, because comments also cite hyper's files.
                let is_ours = !code.contains('/') || code.starts_with("tests/");
                if is_ours {
                    named += 1;
                    if self.of_file(code).next().is_none() {
                        wrong.push(format!("no file `{code}`"));
                    }
                }
                continue;
            }
            let mut segments: Vec<_> = code.split("::").collect();
            let name = segments.pop().unwrap_or_default();
            match segments[..] {
                [] if name.matches('_').count() < MANY || FOREIGN_NAMES.contains(&name) => continue,
                [] => {
                    named += 1;
                    if !self.all().any(|source| source.has(name)) {
                        wrong.push(format!("no test or function `{code}`"));
                    }
                    continue;
                }
                ["crate" | "self" | "super", ..] => continue,
                [file] if file.ends_with(".rs") => {
                    named += 1;
                    if !self.of_file(file).any(|source| source.has(name)) {
                        wrong.push(format!("no `{code}`"));
                    }
                    continue;
                }
                [root, ..] if FOREIGN.contains(&root) => continue,
                ["…"] => {}
                _ => module = segments,
            }
            let files = self.of_module(&module);
            named += 1;
            if files.is_empty() {
                let module = module.join("::");
                wrong.push(format!("no test module `{module}`, for `{code}`"));
            } else if !files.iter().any(|source| source.has(name)) {
                wrong.push(format!("no test `{code}`"));
            }
        }
        (named, wrong)
    }
}

/// Returns the pages and the comments of `src/`.
fn documentation() -> Vec<(PathBuf, String)> {
    let pages = [
        "README.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "benches/README.md",
        "benches/MEASUREMENTS.md",
        "tests/README.md",
    ];
    let pages = pages.map(repository).into_iter();
    let pages = pages.chain(files("docs", &["md"])).map(|page| {
        let text = fs::read_to_string(&page).unwrap();
        (page, text)
    });
    let comments = files("src", &["rs"]).into_iter().map(|file| {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().filter(|line| is_comment(line));
        let text = lines.map(|line| line.trim_start().trim_start_matches(['/', '!']));
        let text = text.collect::<Vec<_>>().join("\n");
        (file, text)
    });
    pages.chain(comments).collect()
}

#[test]
fn test_named_in_documentation_exists() {
    let sources = Sources::read();
    let mut named = 0;
    let mut wrong = Vec::new();
    for (file, text) in documentation() {
        let (in_file, wrong_in_file) = sources.check(&text);
        named += in_file;
        wrong.extend(
            wrong_in_file
                .into_iter()
                .map(|what| format!("{}: {what}", file.display())),
        );
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(named > 100, "{named}");
}

#[test]
fn made_up_test_is_reported() {
    let sources = Sources::read();
    let own = "documented_tests::made_up_test_is_reported";
    for right in [
        own,
        "documented_tests::made_up_…_reported",
        "documented_tests.rs",
        "axum::serve",
    ] {
        assert!(sources.check(&format!("see `{right}`")).1.is_empty());
    }
    // A whole name would be found in this file.
    let part = own.trim_end_matches("_reported");
    let made_up = ["form", "no_such", "test_of_this_name"].join("_");
    for (text, expected) in [
        (format!("`{part}`"), format!("no test `{part}`")),
        (
            format!("`{own}`, `…::{made_up}`"),
            format!("no test `…::{made_up}`"),
        ),
        (
            format!("`no_such_module::{made_up}`"),
            format!("no test module `no_such_module`, for `no_such_module::{made_up}`"),
        ),
        (
            format!("`{made_up}`"),
            format!("no test or function `{made_up}`"),
        ),
        (format!("`{made_up}.rs`"), format!("no file `{made_up}.rs`")),
    ] {
        assert_eq!(sources.check(&text).1, [expected]);
    }
}
