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

    /// Takes the bytes of a datagram, if they are left.
    pub(crate) fn reserve(&self, bytes: u64) -> bool {
        let take = |sent: u64| {
            let sent = sent.checked_add(bytes)?;
            (sent <= self.most).then_some(sent)
        };
        self.sent.fetch_update(Relaxed, Relaxed, take).is_ok()
    }

    /// Returns the reserved bytes of a datagram that was not sent.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.sent.fetch_sub(bytes, Relaxed);
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

    #[test]
    fn only_bytes_that_are_left_are_reserved() {
        let volume = Volume::new(10);
        assert!(volume.reserve(8));
        assert!(!volume.reserve(3) && !volume.reserve(u64::MAX));
        assert!(volume.reserve(2));
        volume.give_back(8);
        assert_eq!((volume.sent(), volume.left()), (2, 8));
    }
}
