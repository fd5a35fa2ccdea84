use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
    time::Duration,
};

use http::request::Parts;

use super::units;

/// The settings of a [`BodyBudget`](crate::BodyBudget).
#[derive(Clone)]
pub struct BodyBudgetConfig {
    pub(super) max_bytes: u64,
    pub(super) wait_timeout: Option<Duration>,
    pub(super) retry_after: Duration,
    pub(super) share: Option<Share>,
}

#[derive(Clone)]
pub(super) struct Share {
    pub(super) max_units: u64,
    pub(super) key: Arc<ShareKey>,
}

type ShareKey = dyn Fn(&Parts) -> Option<u64> + Send + Sync;

impl BodyBudgetConfig {
    /// Allows `max_bytes` for all bodies together. Requests are refused when there is no room.
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            wait_timeout: None,
            retry_after: Duration::from_secs(1),
            share: None,
        }
    }

    /// Lets the first read of a body wait so long for room; `None`, the default, refuses the
    /// request at once. While a body waits, nothing of it is read, and a client that sent
    /// `Expect: 100-continue` gets no 100.
    #[must_use]
    pub fn wait_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.wait_timeout = timeout.into();
        self
    }

    /// Sets the `Retry-After` of a refused request, in whole seconds. The default is 1 s.
    #[must_use]
    pub fn retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// Limits how much of the budget one client may have: requests with the same key have
    /// `max_bytes` together. A request over that is refused with 503 and does not wait. A body
    /// that is longer than the whole share is refused with 413. A request without a key (`None`)
    /// has no such limit.
    ///
    /// ```
    /// use tower_bodyguard::{BodyBudgetConfig, MIB};
    ///
    /// let config = BodyBudgetConfig::new(512 * MIB)
    ///     .max_share(64 * MIB, |head| head.headers.get("authorization").cloned());
    /// ```
    #[must_use]
    pub fn max_share<F, K>(mut self, max_bytes: u64, key: F) -> Self
    where
        F: Fn(&Parts) -> Option<K> + Send + Sync + 'static,
        K: Hash,
    {
        let state = RandomState::new();
        self.share = Some(Share {
            max_units: units(max_bytes),
            key: Arc::new(move |head| Some(state.hash_one(key(head)?))),
        });
        self
    }
}

impl fmt::Debug for BodyBudgetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyBudgetConfig")
            .field("max_bytes", &self.max_bytes)
            .field("wait_timeout", &self.wait_timeout)
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}
