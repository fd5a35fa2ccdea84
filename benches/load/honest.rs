//! Honest clients and their results.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// A client that waits longer than this counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two requests of a kind, so that each kind has its turn.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

const PAGE: &[u8] = b"GET / HTTP/1.1\r\nHost: form\r\nConnection: close\r\n\r\n";

/// Writes the whole request, and then reads to the end.
pub(crate) async fn exchange(addr: SocketAddr, request: &[u8]) -> Option<(String, Duration)> {
    let start = Instant::now();
    let response = async {
        let mut socket = TcpStream::connect(addr).await?;
        socket.write_all(request).await?;
        let mut response = String::new();
        socket.read_to_string(&mut response).await?;
        Ok::<_, std::io::Error>(response)
    };
    let response = timeout(PATIENCE, response).await;
    Some((response.ok()?.ok()?, start.elapsed()))
}

/// Returns an upload after which the connection ends.
pub(crate) fn upload(length: usize) -> Vec<u8> {
    let head = "POST /raw HTTP/1.1\r\nHost: form\r\nConnection: close\r\n";
    let mut request = format!("{head}Content-Length: {length}\r\n\r\n").into_bytes();
    request.resize(request.len() + length, b'0');
    request
}

/// Counts the results of honest clients.
#[derive(Default)]
pub(crate) struct Honest {
    pages: Mutex<Vec<Duration>>,
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) lost: AtomicU64,
}

impl Honest {
    /// Counts one response, or a missing one.
    pub(crate) fn count(&self, status: Option<u16>, expected: u16) {
        let counter = match status {
            Some(status) if status == expected && status < 400 => &self.accepted,
            Some(status) if status == expected => &self.refused,
            _ => &self.lost,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests one page after the other, until it is dropped.
    pub(crate) async fn read_pages(self: Arc<Self>, addr: SocketAddr) {
        loop {
            match exchange(addr, PAGE).await {
                Some((response, took)) if response.starts_with("HTTP/1.1 200 ") => {
                    self.pages.lock().expect("no thread panics").push(took);
                }
                _ => self.count(None, 200),
            }
            sleep(PAUSE).await;
        }
    }

    /// Sends one upload after the other.
    pub(crate) async fn upload(self: Arc<Self>, addr: SocketAddr, length: usize, expected: u16) {
        let request = upload(length);
        loop {
            let response = exchange(addr, &request).await;
            self.count(
                response.and_then(|(response, _)| status(&response)),
                expected,
            );
            sleep(PAUSE).await;
        }
    }

    pub(crate) fn summary(&self) -> String {
        let mut pages = self.pages.lock().expect("no thread panics").clone();
        pages.sort();
        let percentile = |of: usize| pages.get(pages.len() * of / 100).copied();
        let [accepted, refused, lost] =
            [&self.accepted, &self.refused, &self.lost].map(|count| count.load(Ordering::Relaxed));
        format!(
            "{} pages (median {:.1?}, p99 {:.1?}, longest {:.1?}), {accepted} accepted, {refused} \
             refused with a response, {lost} lost",
            pages.len(),
            percentile(50).unwrap_or_default(),
            percentile(99).unwrap_or_default(),
            pages.last().copied().unwrap_or_default(),
        )
    }
}

/// Returns the status in the first line of a whole response.
pub(crate) fn status(response: &str) -> Option<u16> {
    response.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}
