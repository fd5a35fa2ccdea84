//! The result of a probe.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    client::Client,
    finding::{Finding, Severity, Verdict},
    judge::{Outcome, findings},
    observation::{Observation, Second},
};

/// The result of a probe. `--json` prints it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(title = "A report of early-response-probe")]
pub struct Report {
    /// The version of the probe.
    pub version: &'static str,
    /// The URL that was probed.
    pub url: String,
    /// The address of all connections. HTTP/3 may use another port of it.
    pub address: String,
    /// Bytes of each upload.
    pub size: u64,
    /// Whether no response was lost and the server misread no connection.
    pub passed: bool,
    /// Whether at least one response was early.
    pub judged: bool,
    /// Whether all runs took place. `--max-volume` may prevent some.
    pub complete: bool,
    /// Bytes that the sockets accepted, with heads and TLS.
    pub bytes_sent: u64,
    /// The clients, in the order in which they ran.
    pub clients: Vec<ClientReport>,
    /// The findings of all uploads, the gravest first.
    pub findings: Vec<FindingReport>,
}

/// The uploads of one client.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ClientReport {
    /// The client.
    pub client: Client,
    /// A description of the client.
    pub description: &'static str,
    /// Why it did not run.
    pub skipped: Option<String>,
    /// Its uploads.
    pub runs: Vec<Run>,
}

/// One upload.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Run {
    /// The fate of the response.
    pub outcome: Outcome,
    /// The findings of this upload.
    pub findings: Vec<Finding>,
    /// The facts that the client saw.
    #[serde(flatten)]
    pub seen: Observation,
}

/// Something to report, and the clients that saw it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FindingReport {
    /// The finding.
    pub finding: Finding,
    /// How much it weighs.
    pub severity: Severity,
    /// In how many uploads each client saw it.
    pub clients: BTreeMap<Client, usize>,
    /// The explanation.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Run {
    pub(crate) fn new(seen: Observation, expected: Option<u16>, client: Client) -> Self {
        Self {
            outcome: Outcome::of(&seen),
            findings: findings(&seen, expected, client),
            seen,
        }
    }
}

impl ClientReport {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            description: client.describe(),
            skipped: None,
            runs: Vec::new(),
        }
    }

    /// Returns how many uploads ended so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.seen(|run| run.outcome == outcome)
    }

    /// Returns how many uploads meet a condition.
    #[must_use]
    pub fn seen(&self, condition: impl Fn(&Run) -> bool) -> usize {
        self.runs.iter().filter(|run| condition(run)).count()
    }

    /// Returns all statuses, with the number of uploads.
    #[must_use]
    pub fn statuses(&self) -> BTreeMap<u16, usize> {
        let mut statuses = BTreeMap::new();
        for status in self.runs.iter().filter_map(|run| run.seen.status) {
            *statuses.entry(status).or_default() += 1;
        }
        statuses
    }

    /// Returns the median time to the first byte of a response, in milliseconds.
    #[must_use]
    pub fn first_byte_ms(&self) -> Option<f64> {
        let times = self.runs.iter().filter_map(|run| run.seen.first_byte_ms);
        let mut times: Vec<_> = times.collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    }

    /// Returns the mean of the bytes that were sent in vain.
    #[must_use]
    pub fn sent_in_vain(&self) -> Option<u64> {
        let sent: u64 = self.runs.iter().map(|run| run.seen.sent_in_vain).sum();
        sent.checked_div(self.runs.len() as u64)
    }

    /// Returns how many uploads were followed by a second request that was served.
    #[must_use]
    pub fn reused(&self) -> usize {
        self.seen(|run| run.seen.second == Second::Served)
    }

    /// Returns all error codes of `STOP_SENDING`, with the number of uploads.
    #[must_use]
    pub fn stop_codes(&self) -> BTreeMap<&str, usize> {
        let mut codes = BTreeMap::new();
        let runs = self.runs.iter();
        for code in runs.filter_map(|run| run.seen.stop_sending.as_deref()) {
            *codes.entry(code).or_default() += 1;
        }
        codes
    }

    /// Returns the faults of this client's uploads, the gravest first.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<Finding, usize> {
        let mut faults = BTreeMap::new();
        let findings = self.runs.iter().flat_map(|run| &run.findings);
        for finding in findings.filter(|finding| finding.severity() == Severity::Fault) {
            *faults.entry(*finding).or_default() += 1;
        }
        faults
    }
}

/// Returns each finding of the clients once, the gravest first.
pub(crate) fn summarize(clients: &[ClientReport]) -> Vec<FindingReport> {
    let mut by_finding: BTreeMap<Finding, BTreeMap<Client, usize>> = BTreeMap::new();
    for client in clients {
        for finding in client.runs.iter().flat_map(|run| &run.findings) {
            let of_finding = by_finding.entry(*finding).or_default();
            *of_finding.entry(client.client).or_default() += 1;
        }
    }
    let reports = by_finding
        .into_iter()
        .map(|(finding, clients)| FindingReport {
            finding,
            severity: finding.severity(),
            clients,
            verdict: finding.verdict(),
        });
    reports.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::Received;

    fn client(client: Client, runs: &[(Received, f64)]) -> ClientReport {
        let runs = runs.iter().map(|(received, first_byte_ms)| {
            let seen = Observation {
                status: (*received != Received::Nothing).then_some(413),
                received: *received,
                first_byte_ms: Some(*first_byte_ms),
                sent_in_vain: 10,
                early: Some(true),
                ..Observation::default()
            };
            Run::new(seen, None, client)
        });
        ClientReport {
            runs: runs.collect(),
            ..ClientReport::new(client)
        }
    }

    #[test]
    fn each_finding_is_summarized_once() {
        let (whole, lost, cut) = (Received::Whole, Received::Nothing, Received::Part);
        let clients = [
            client(
                Client::SendsFirst,
                &[(lost, 1.0), (whole, 3.0), (lost, 2.0)],
            ),
            client(Client::Reads, &[(cut, 1.0), (lost, 1.0)]),
        ];
        let summary = summarize(&clients);
        let found: Vec<_> = summary.iter().map(|report| report.finding).collect();
        assert_eq!(found, [Finding::Lost, Finding::Cut]);
        let counts: Vec<_> = summary[0].clients.values().copied().collect();
        assert_eq!(counts, [2, 1]);
    }

    #[test]
    fn uploads_of_a_client_are_summed() {
        let (whole, lost) = (Received::Whole, Received::Nothing);
        let client = client(Client::Reads, &[(lost, 1.0), (whole, 3.0), (lost, 2.0)]);
        assert_eq!(client.count(Outcome::Lost), 2);
        assert_eq!(client.statuses(), BTreeMap::from([(413, 1)]));
        assert_eq!(client.first_byte_ms(), Some(2.0));
        assert_eq!(client.sent_in_vain(), Some(10));
        assert_eq!(client.faults(), BTreeMap::from([(Finding::Lost, 2)]));
        assert_eq!(ClientReport::new(Client::Reads).sent_in_vain(), None);
    }
}
