//! The body of an upload, block by block, and the pace at which it is sent.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use crate::{options::Options, target::Target};

const BLOCK: u64 = 64 * 1024;
const BOUNDARY: &str = "early-response-probe";

/// The content of an upload.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    prefix: Bytes,
    /// Repeated, up to `size` bytes.
    block: Bytes,
    size: u64,
    suffix: Bytes,
    content_type: String,
}

impl Body {
    /// Returns zeros, or a form with a file of zeros.
    pub(crate) fn new(options: &Options) -> Self {
        let block = Bytes::from(vec![b'0'; block_length(options.rate)]);
        let mut body = Self {
            prefix: Bytes::new(),
            block,
            size: options.size,
            suffix: Bytes::new(),
            content_type: "application/octet-stream".to_owned(),
        };
        if let Some(field) = &options.form_field {
            let prefix = format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{field}\"; \
                 filename=\"probe.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n"
            );
            body.prefix = prefix.into();
            body.suffix = format!("\r\n--{BOUNDARY}--\r\n").into();
            body.content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        }
        body
    }

    /// Returns the same body, with requests instead of zeros.
    pub(crate) fn hiding_requests(mut self, target: &Target) -> Self {
        let hidden = format!(
            "GET /early-response-probe-hidden HTTP/1.1\r\nHost: {}\r\n\r\n",
            target.authority()
        );
        self.block = hidden
            .repeat(self.block.len().div_ceil(hidden.len()))
            .into();
        self
    }

    pub(crate) fn content_type(&self) -> &str {
        &self.content_type
    }

    pub(crate) fn length(&self) -> u64 {
        self.prefix.len() as u64 + self.size + self.suffix.len() as u64
    }

    /// Returns the content in order, as blocks.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Bytes> + use<> {
        let block = self.block.clone();
        let mut left = self.size;
        let content = std::iter::from_fn(move || {
            let length = left.min(block.len() as u64);
            left -= length;
            (length > 0).then(|| block.slice(..length as usize))
        });
        let [prefix, suffix] = [&self.prefix, &self.suffix]
            .map(|part| Some(part.clone()).filter(|part| !part.is_empty()));
        prefix.into_iter().chain(content).chain(suffix)
    }
}

/// Returns a length of which a slow client sends ten in a second.
fn block_length(rate: Option<u64>) -> usize {
    let length = rate.map_or(BLOCK, |rate| (rate / 10).clamp(1, BLOCK));
    length as usize
}

/// Delays a client that sends faster than its rate.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Option<u64>,
    start: Instant,
}

impl Pace {
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self {
            rate,
            start: Instant::now(),
        }
    }

    /// Waits until `sent` bytes are no longer too many. Without a rate, lets other tasks run.
    ///
    /// Cancel safe.
    pub(crate) async fn wait(&self, sent: u64) {
        match self.rate {
            Some(rate) => {
                let due = Duration::from_secs_f64(sent as f64 / rate.max(1) as f64);
                sleep_until(self.start + due).await;
            }
            None => tokio::task::yield_now().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(body: &Body) -> Vec<u8> {
        body.blocks().flatten().collect()
    }

    #[test]
    fn blocks_have_the_declared_length() {
        for size in [0, 1, BLOCK, BLOCK + 1] {
            for form_field in [None, Some("file".to_owned())] {
                let options = Options {
                    size,
                    form_field,
                    ..Options::default()
                };
                let body = Body::new(&options);
                assert_eq!(content(&body).len() as u64, body.length());
            }
        }
    }

    #[tokio::test]
    async fn hidden_requests_fill_the_body() {
        let target = Target::new("http://127.0.0.1:1/").await.unwrap();
        let options = Options {
            size: 1000,
            ..Options::default()
        };
        let body = Body::new(&options).hiding_requests(&target);
        let content = String::from_utf8(content(&body)).unwrap();
        assert_eq!(content.len(), 1000);
        assert!(content.matches("GET /").count() > 10);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_client_waits_for_its_rate() {
        let start = Instant::now();
        Pace::new(Some(1000)).wait(2500).await;
        assert_eq!(start.elapsed().as_millis(), 2500);
        Pace::new(None).wait(2500).await;
        assert_eq!(start.elapsed().as_millis(), 2500);
    }
}
