//! Checks the links between the pages: files exist, and anchors are headings.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use pulldown_cmark::{Event, Parser, Tag, TagEnd};
use regex::Regex;
use testkit::outside::repository;

#[test]
fn links_of_pages_lead_somewhere() {
    let mut broken = Vec::new();
    let pages = pages();
    assert!(pages.len() > 10, "{pages:?}");
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            if !leads_somewhere(&page, &link) {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn broken_link_is_found() {
    let page = repository("README.md");
    assert!(leads_somewhere(&page, "docs/LAYERS.md"));
    assert!(leads_somewhere(&page, "https://example.com/"));
    assert!(!leads_somewhere(&page, "docs/LAYER.md"));
    assert!(!leads_somewhere(&page, "docs/LAYERS.md#no-such-heading"));
    assert!(!leads_somewhere(&page, "#no-such-heading"));
    let html = r#"<picture><source srcset="dark.svg"><img src="light.svg"></picture>"#;
    assert_eq!(links(html), ["dark.svg", "light.svg"]);
}

fn pages() -> Vec<PathBuf> {
    let folders = [
        "",
        "docs",
        "docs/evidence",
        "tests",
        "fuzz",
        "benches",
        "probe",
    ];
    let entries = folders.map(|folder| fs::read_dir(repository(folder)).unwrap());
    let paths = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

fn links(text: &str) -> Vec<String> {
    let source = Regex::new(r#"\b(?:src|srcset)="([^"]*)""#).unwrap();
    let links = Parser::new(text).flat_map(|event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
            vec![dest_url.into_string()]
        }
        Event::Html(html) | Event::InlineHtml(html) => {
            let sources = source.captures_iter(&html);
            sources.map(|found| found[1].to_owned()).collect()
        }
        _ => Vec::new(),
    });
    links.collect()
}

fn leads_somewhere(page: &Path, link: &str) -> bool {
    if link.contains("://") || link.starts_with("mailto:") {
        return true;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let file = match file {
        "" => page.to_owned(),
        file => page.parent().unwrap().join(file),
    };
    if anchor.is_empty() {
        return file.exists();
    }
    let Ok(text) = fs::read_to_string(&file) else {
        return false;
    };
    // A line of a source, or a heading of a page.
    match file.extension().is_some_and(|extension| extension == "md") {
        true => anchors(&text).contains(anchor),
        false => anchor.starts_with('L'),
    }
}

/// The anchors that GitHub makes of headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut heading: Option<String> = None;
    for event in Parser::new(text) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                anchors.extend(heading.take().map(|heading| slug(&heading)));
            }
            _ => {}
        }
    }
    anchors
}

fn slug(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}
