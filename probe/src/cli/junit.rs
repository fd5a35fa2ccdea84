//! The report for CI systems: a test case for each client.

use std::{collections::BTreeMap, fmt::Write as _};

use early_response_probe::{ClientReport, Finding, Report};
use quick_junit::{
    NonSuccessKind, Report as Junit, SerializeError, TestCase, TestCaseStatus, TestSuite,
};

/// Returns the report as XML of `JUnit`.
pub(crate) fn text(report: &Report) -> Result<String, SerializeError> {
    let mut suite = TestSuite::new(report.url.as_str());
    suite.add_test_cases(report.clients.iter().map(case));
    let mut junit = Junit::new("early-response-probe");
    junit.add_test_suite(suite);
    junit.to_string()
}

fn case(client: &ClientReport) -> TestCase {
    let faults = client.faults();
    let mut status = match (faults.keys().next(), &client.skipped) {
        (Some(_), _) => TestCaseStatus::non_success(NonSuccessKind::Failure),
        (None, Some(_)) => TestCaseStatus::skipped(),
        (None, None) => TestCaseStatus::success(),
    };
    if let Some(gravest) = faults.keys().next() {
        let title = gravest.verdict().title;
        status
            .set_message(title)
            .set_type(title)
            .set_description(description(&faults, client.runs.len()));
    } else if let Some(why) = &client.skipped {
        status.set_message(why.as_str());
    }
    let mut case = TestCase::new(client.client.name(), status);
    case.set_classname("early-response-probe");
    case
}

fn description(faults: &BTreeMap<Finding, usize>, runs: usize) -> String {
    let mut text = String::new();
    for (finding, count) in faults {
        let verdict = finding.verdict();
        // A string can always be written to.
        let _ = writeln!(
            text,
            "{count} of {runs}: {}. {} {} Mend: {}",
            verdict.title, verdict.meaning, verdict.rfc, verdict.mend
        );
    }
    text
}
