//! Counts words and phrases that this project avoids in prose, comments and the names of tests.
//! CONTRIBUTING.md says why, and what to write instead. A count may fall and may not rise:
//! `language_counts.txt` has the latest.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;
use testkit::outside::repository;

/// The patterns that are avoided, by the names of their counts.
const AVOIDED: [(&str, &str); 8] = [
    ("answer, for a response", r"(?i)\banswer(s|ed|ing)?\b"),
    (
        "nobody, whoever, for ever, once more",
        r"(?i)\b(nobody|whoever|whatever it|one's own|for ever|for good|once more)\b",
    ),
    (
        "a clause as the subject",
        r"(?m)^[\s>*|-]*(What|Who|Whoever|Whatever|Of those|Of these|Where it|Where nobody|Where there)\b(?-m)[^?]*$",
    ),
    (
        "for, meaning because",
        r"[,;] for (the|it|what|who|then|there|nobody|a)\b",
    ),
    (
        "a genitive of a project",
        r"\b(of|by) (gRPC|axum|hyper|tower-http|nginx|tonic|ours|theirs)'s\b",
    ),
    (
        "let go of, give way, broken off, under way",
        r"(?i)\b(lets? go of|gives? way|gave way|broken off|breaks off|said to close|reads? on|under way)\b",
    ),
    ("the hook", r"(?i)\bthe hook\b"),
    ("joined", r"(?i)\bjoined\b"),
];

const COUNTS: &str = "tests/layers/language_counts.txt";

#[test]
fn avoided_words_become_no_more() {
    let mut hits: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let avoided = AVOIDED.map(|(name, pattern)| (name, Regex::new(pattern).unwrap()));
    for file in files(&repository("")) {
        let text = fs::read_to_string(&file).unwrap();
        let below = file.strip_prefix(repository("")).unwrap();
        for (at, line) in text.lines().enumerate() {
            let prose = match file.extension().is_some_and(|extension| extension == "rs") {
                true => prose_of_code(line),
                false => line.to_owned(),
            };
            for (name, pattern) in &avoided {
                for _ in pattern.find_iter(&prose) {
                    let hit = format!("{}:{}: {}", below.display(), at + 1, line.trim());
                    hits.entry(name).or_default().push(hit);
                }
            }
        }
    }
    let mut counts = String::new();
    for (name, _) in &avoided {
        let count = hits.get(name).map_or(0, Vec::len);
        writeln!(counts, "{count} {name}").unwrap();
    }
    let committed = fs::read_to_string(repository(COUNTS)).unwrap();
    for ((name, _), line) in avoided.iter().zip(committed.lines()) {
        let (most, of) = line.split_once(' ').unwrap();
        assert_eq!(of, *name, "{COUNTS} is to be:\n{counts}");
        let found = hits.remove(name).unwrap_or_default();
        assert!(
            found.len() <= most.parse().unwrap(),
            "{} of {name:?}, and at most {most} before:\n{}",
            found.len(),
            found.join("\n")
        );
    }
    assert!(
        counts == committed,
        "fewer than before: write this to {COUNTS}\n{counts}"
    );
}

/// The comment of a line, and the name of a test.
fn prose_of_code(line: &str) -> String {
    if let Some((_, comment)) = line.split_once("// ").or_else(|| line.split_once("/// ")) {
        return comment.to_owned();
    }
    if let Some(comment) = line.trim_start().strip_prefix("//! ") {
        return comment.to_owned();
    }
    let name = line.trim_start().trim_start_matches("async ");
    match name.strip_prefix("fn ") {
        Some(name) => name.split('(').next().unwrap().replace('_', " "),
        None => String::new(),
    }
}

/// The page that lists the words, and one that a program writes.
const LISTS: [&str; 2] = ["CONTRIBUTING.md", "benches/MEASUREMENTS.md"];

/// Returns the pages, sources and templates.
fn files(folder: &Path) -> Vec<PathBuf> {
    let skipped = [
        "target",
        "node_modules",
        "corpus",
        "artifacts",
        "language.rs",
    ];
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_list = LISTS.iter().any(|list| path.ends_with(list));
        if name.starts_with('.') || skipped.contains(&name) || is_list {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else if [".rs", ".md", ".html", ".mjs"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            found.push(path);
        }
    }
    found
}
