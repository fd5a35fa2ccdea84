//! The options of a probe. Plain data.

use std::time::Duration;

use http::{HeaderMap, Method};

use crate::client::Client;

/// The options of a probe: the uploads, and how many there are.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of each upload.
    pub size: u64,
    /// Uploads by each client.
    pub runs: u32,
    /// The method of the uploads.
    pub method: Method,
    /// Additional headers of all requests, such as `Authorization`.
    pub headers: HeaderMap,
    /// The name of the file's field, to send `multipart/form-data`.
    pub form_field: Option<String>,
    /// The most bytes per second that a client sends.
    pub rate: Option<u64>,
    /// The status that is expected of each response.
    pub expected_status: Option<u16>,
    /// How long a client waits while no byte moves.
    pub timeout: Duration,
    /// Whether any certificate is accepted.
    pub insecure: bool,
    /// The clients to run.
    pub clients: Vec<Client>,
    /// Whether the HTTP/3 clients try the port of the URL if no `Alt-Svc` names h3.
    pub http3_without_alt_svc: bool,
    /// The most bytes that all clients send together.
    pub max_volume: u64,
}

impl Default for Options {
    /// Uploads 64 MiB ten times as each client, and at most 16 GiB.
    fn default() -> Self {
        Self {
            size: 64 << 20,
            runs: 10,
            method: Method::POST,
            headers: HeaderMap::new(),
            form_field: None,
            rate: None,
            expected_status: None,
            timeout: Duration::from_secs(10),
            insecure: false,
            clients: Client::ALL.to_vec(),
            http3_without_alt_svc: false,
            max_volume: 16 << 30,
        }
    }
}

impl Options {
    /// Returns the most bytes that all runs can send. Heads and TLS come on top.
    #[must_use]
    pub fn planned_volume(&self) -> u64 {
        let clients = self.clients.iter();
        let of_each = clients.map(|client| client.most_sent(self.size));
        let of_all = of_each.fold(0, u64::saturating_add);
        of_all.saturating_mul(self.runs.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_counts_both_uploads_of_a_client_that_resets() {
        let options = Options {
            size: 100,
            runs: 3,
            clients: vec![Client::Reads, Client::Resets],
            ..Options::default()
        };
        assert_eq!(options.planned_volume(), 900);
    }

    #[test]
    fn default_volume_suffices() {
        let options = Options::default();
        assert!(options.planned_volume() < options.max_volume);
    }
}
