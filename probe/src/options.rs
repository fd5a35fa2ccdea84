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
            max_volume: 16 << 30,
        }
    }
}

impl Options {
    /// Returns the most bytes that all runs can send. Heads and TLS come on top.
    #[must_use]
    pub fn planned_volume(&self) -> u64 {
        let uploads = u64::from(self.runs).saturating_mul(self.clients.len() as u64);
        uploads.saturating_mul(self.size)
    }
}
