//! The reading side of an HTTP/1 client.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, ReadHalf},
    time::{Instant, sleep, timeout},
};

use super::response::Responses;
use crate::{connection::Stream, socket::Log};

/// A slow reader takes so many bytes, and then waits.
const SIP: usize = 512;
const SIP_INTERVAL: Duration = Duration::from_millis(10);

pub(super) struct Reader {
    half: ReadHalf<Box<dyn Stream>>,
    log: Log,
    buffer: Vec<u8>,
    is_slow: bool,
    /// Whether the connection has ended, cleanly or not.
    pub(super) has_ended: bool,
    pub(super) responses: Responses,
    /// When the client read the first byte of a final response.
    pub(super) first_byte: Option<Instant>,
    /// Whether the connection had failed when the first response was whole.
    pub(super) failed_before_whole: Option<bool>,
}

impl Reader {
    pub(super) fn new(
        half: ReadHalf<Box<dyn Stream>>,
        log: Log,
        to_head: bool,
        is_slow: bool,
    ) -> Self {
        Self {
            half,
            log,
            buffer: vec![0; if is_slow { SIP } else { 64 * 1024 }],
            is_slow,
            has_ended: false,
            responses: Responses::new(to_head),
            first_byte: None,
            failed_before_whole: None,
        }
    }

    pub(super) fn log(&self) -> Log {
        self.log.clone()
    }

    /// Reads once. Returns `false` at the end of the connection, clean or not.
    ///
    /// Cancel safe.
    async fn read(&mut self) -> bool {
        if self.has_ended {
            return false;
        }
        if self.is_slow {
            sleep(SIP_INTERVAL).await;
        }
        match self.half.read(&mut self.buffer).await {
            Ok(0) => {
                self.has_ended = true;
                // Linux reports a reset once, and afterwards an end.
                if !self.log.notes().has_failed() {
                    self.responses.end();
                }
            }
            Ok(length) => self.responses.feed(&self.buffer[..length]),
            Err(_) => self.has_ended = true,
        }
        if self.responses.has_final_bytes() {
            self.first_byte.get_or_insert_with(Instant::now);
        }
        if !self.responses.whole().is_empty() {
            let log = &self.log;
            self.failed_before_whole
                .get_or_insert_with(|| log.notes().has_failed());
        }
        !self.has_ended
    }

    /// Reads to the first byte of a final response, or to the end.
    pub(super) async fn read_first_byte(&mut self) {
        while !self.responses.has_final_bytes() && self.read().await {}
    }

    /// Reads to any response, interim or final, or to the end. Waits for `patience` at most.
    pub(super) async fn read_any(&mut self, patience: Duration) {
        let any = async {
            let responses = |reader: &Self| {
                reader.responses.has_interim_100() || reader.responses.has_final_bytes()
            };
            while !responses(self) && self.read().await {}
        };
        // Without a response in time, the client sends its body.
        let _ = timeout(patience, any).await;
    }

    /// Reads until `count` responses are whole, or to the end.
    pub(super) async fn read_whole(&mut self, count: usize) {
        while self.responses.whole().len() < count && self.read().await {}
    }

    /// Reads as [`read_whole`](Self::read_whole) does, and waits for `patience` at most.
    pub(super) async fn read_whole_within(&mut self, count: usize, patience: Duration) {
        // If the time is over, fewer responses are whole.
        let _ = timeout(patience, self.read_whole(count)).await;
    }
}
