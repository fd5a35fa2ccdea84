//! The dashboard, the alert rules and the page in `docs/` against the metrics of the form.

use std::{fs, process::Command};

use libtest_mimic::Failed;
use regex::Regex;
use serde_json::Value;
use testkit::{
    Framing, LARGE, SendFirst,
    client::get,
    outside::{Need, Trial, repository, succeed, trial},
};

use super::stage::{Stage, test};

pub(crate) fn trials() -> Vec<Trial> {
    let promtool = trial(
        "alert_rules_pass_promtool",
        &[Need::program("promtool")],
        alert_rules,
    );
    vec![
        test("dashboard_alerts_and_page_name_what_the_form_serves", names),
        promtool,
    ]
}

/// The lines of a scrape that have values.
struct Scrape(Vec<String>);

impl Scrape {
    /// Scrapes a form that has refused an upload.
    fn take() -> Self {
        let stage = Stage::start(&[]);
        let upload = SendFirst::post("/raw", Framing::ContentLength, LARGE);
        upload.to(stage.addr()).assert_delivered(413);
        let text = get(stage.addr(), "/metrics").body;
        let values = text.lines().filter(|line| line.starts_with("bodyguard_"));
        Self(values.map(str::to_owned).collect())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .map(|line| line.split(['{', ' ']).next().unwrap())
    }

    fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// Returns whether a series of the metric has `part` in its labels.
    fn has_label(&self, name: &str, part: &str) -> bool {
        let mut series = self.0.iter().zip(self.names());
        series.any(|(line, known)| known == name && line.contains(part))
    }

    /// Checks the queries in a text, and returns how many metrics it names.
    fn check(&self, text: &str) -> usize {
        let selector = Regex::new(r"\b(bodyguard_\w+)(?:\{([^}]*)\})?").unwrap();
        let matcher = Regex::new(r#"(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)""#).unwrap();
        let grouping = Regex::new(r"by \(([^)]*)\) \((?:\w+\()?(bodyguard_\w+)").unwrap();
        // Prometheus itself adds the label `job`.
        let ours = |label: &str| label != "job";
        let mut named = 0;
        for selected in selector.captures_iter(text) {
            let name = &selected[1];
            assert!(self.has(name), "the form does not serve {name}");
            named += 1;
            let labels = selected.get(2).map_or("", |labels| labels.as_str());
            for matched in matcher.captures_iter(labels) {
                let (label, values) = (&matched[1], &matched[2]);
                for value in values.split('|').filter(|_| ours(label)) {
                    let pair = format!("{label}=\"{value}\"");
                    assert!(self.has_label(name, &pair), "{name} has no {pair}");
                }
            }
        }
        for group in grouping.captures_iter(text) {
            for label in group[1].split(", ").filter(|label| ours(label)) {
                let label = format!("{label}=");
                assert!(self.has_label(&group[2], &label), "{}: {label}", &group[2]);
            }
        }
        named
    }
}

fn read(file: &str) -> String {
    fs::read_to_string(repository("docs").join(file)).unwrap()
}

fn names() {
    let scrape = Scrape::take();
    let dashboard: Value = serde_json::from_str(&read("observability/dashboard.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            assert!(scrape.check(query) > 0, "{query}");
        }
    }
    assert!(scrape.check(&read("observability/alerts.yml")) > 3);
    assert!(scrape.check(&read("observability/alerts_test.yml")) > 3);

    let page = read("OBSERVABILITY.md");
    let metric = Regex::new(r"`(bodyguard_\w+)`").unwrap();
    let documented: Vec<_> = metric
        .captures_iter(&page)
        .map(|name| name[1].to_owned())
        .collect();
    for name in scrape.names() {
        let parts = ["_bucket", "_sum", "_count"];
        let whole = parts
            .iter()
            .find_map(|part| name.strip_suffix(part))
            .unwrap_or(name);
        assert!(documented.iter().any(|known| known == whole), "{whole}");
    }
    // The form has no budget.
    for name in documented
        .iter()
        .filter(|name| !name.starts_with("bodyguard_budget_"))
    {
        let is_histogram = scrape.has(&format!("{name}_bucket"));
        assert!(
            scrape.has(name) || is_histogram,
            "the form does not serve {name}"
        );
    }
    let value = Regex::new(r#"(?:kind|reason)="(\w+)""#).unwrap();
    for line in &scrape.0 {
        for value in value.captures_iter(line) {
            assert!(page.contains(&format!("`{}`", &value[1])), "{line}");
        }
    }
}

fn alert_rules() -> Result<(), Failed> {
    for arguments in [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
    ] {
        let mut promtool = Command::new("promtool");
        promtool
            .current_dir(repository("docs/observability"))
            .args(arguments);
        succeed(&mut promtool)?;
    }
    Ok(())
}
