//! The limit on all bytes that the probe sends.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The bytes that may still be sent, counted where they enter the sockets.
#[derive(Debug)]
pub(crate) struct Volume {
    most: u64,
    sent: AtomicU64,
}

impl Volume {
    pub(crate) fn new(most: u64) -> Self {
        Self {
            most,
            sent: AtomicU64::new(0),
        }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(crate) fn left(&self) -> u64 {
        self.most.saturating_sub(self.sent())
    }

    pub(crate) fn spend(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spent_bytes_are_no_longer_left() {
        let volume = Volume::new(10);
        volume.spend(4);
        assert_eq!((volume.sent(), volume.left()), (4, 6));
        volume.spend(8);
        assert_eq!(volume.left(), 0);
    }
}
