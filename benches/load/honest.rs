//! Clients who mean well, and what became of them.

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

/// Nobody waits longer than that, and who does counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two of a kind, so that each has its turn.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

const PAGE: &[u8] = b"GET / HTTP/1.1\r\nHost: form\r\nConnection: close\r\n\r\n";

/// Writes all of it, and then reads all that comes.
pub(crate) async fn exchange(addr: SocketAddr, request: &[u8]) -> Option<(String, Duration)> {
    let start = Instant::now();
    let answer = async {
        let mut socket = TcpStream::connect(addr).await?;
        socket.write_all(request).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(PATIENCE, answer).await;
    Some((answer.ok()?.ok()?, start.elapsed()))
}

/// That connection ends with it.
pub(crate) fn upload(length: usize) -> Vec<u8> {
    let head = "POST /raw HTTP/1.1\r\nHost: form\r\nConnection: close\r\n";
    let mut request = format!("{head}Content-Length: {length}\r\n\r\n").into_bytes();
    request.resize(request.len() + length, b'0');
    request
}

/// How they fared.
#[derive(Default)]
pub(crate) struct Honest {
    pages: Mutex<Vec<Duration>>,
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) lost: AtomicU64,
}

impl Honest {
    /// One answer, or none where one was due.
    pub(crate) fn count(&self, status: Option<u16>, expected: u16) {
        let counter = match status {
            Some(status) if status == expected && status < 400 => &self.accepted,
            Some(status) if status == expected => &self.refused,
            _ => &self.lost,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// One page after the other, until it is dropped.
    pub(crate) async fn read_pages(self: Arc<Self>, addr: SocketAddr) {
        loop {
            match exchange(addr, PAGE).await {
                Some((answer, took)) if answer.starts_with("HTTP/1.1 200 ") => {
                    self.pages.lock().expect("nobody panics").push(took);
                }
                _ => self.count(None, 200),
            }
            sleep(PAUSE).await;
        }
    }

    /// One upload after the other.
    pub(crate) async fn upload(self: Arc<Self>, addr: SocketAddr, length: usize, expected: u16) {
        let request = upload(length);
        loop {
            let answer = exchange(addr, &request).await;
            self.count(answer.and_then(|(answer, _)| status(&answer)), expected);
            sleep(PAUSE).await;
        }
    }

    pub(crate) fn summary(&self) -> String {
        let mut pages = self.pages.lock().expect("nobody panics").clone();
        pages.sort();
        let percentile = |of: usize| pages.get(pages.len() * of / 100).copied();
        let [accepted, refused, lost] =
            [&self.accepted, &self.refused, &self.lost].map(|count| count.load(Ordering::Relaxed));
        format!(
            "{} pages (median {:.1?}, p99 {:.1?}, longest {:.1?}), {accepted} accepted, {refused} \
             refused and told, {lost} lost",
            pages.len(),
            percentile(50).unwrap_or_default(),
            percentile(99).unwrap_or_default(),
            pages.last().copied().unwrap_or_default(),
        )
    }
}

/// Of a whole answer's first line.
pub(crate) fn status(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}
