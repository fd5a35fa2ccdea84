use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
    time::Duration,
};

use http::request::Parts;

use super::units;
use crate::limit::headers::whole_seconds;

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
    ///
    /// # Panics
    ///
    /// Panics if `max_bytes` is 0.
    #[must_use]
    #[track_caller]
    pub fn new(max_bytes: u64) -> Self {
        assert_ne!(
            max_bytes, 0,
            "a budget of 0 bytes refuses all bodies: allow some"
        );
        Self {
            max_bytes,
            wait_timeout: None,
            retry_after: Duration::from_secs(1),
            share: None,
        }
    }

    /// Lets a body wait for room at most this long. `None`, the default, refuses the request at
    /// once.
    ///
    /// The handler runs, and its first read of the body waits. Nothing is read meanwhile, and a
    /// client that sent `Expect: 100-continue` gets no 100. The bodies get room in the order in
    /// which their requests arrived. A body that would fit waits behind those that came before.
    ///
    /// **Only bodies over HTTP/1 wait.** Over HTTP/2 and HTTP/3, a body that waits occupies a part
    /// of the connection's flow-control window, which the bodies that have room need. Without
    /// room, or while other bodies wait for it, they are refused at once.
    ///
    /// # Panics
    ///
    /// The body panics when it waits outside of a tokio runtime with timers.
    #[must_use]
    pub fn wait_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.wait_timeout = timeout.into();
        self
    }

    /// Sets the `Retry-After` of a refused request, rounded up to whole seconds. The default is
    /// 1 s.
    #[must_use]
    pub fn retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = whole_seconds(retry_after);
        self
    }

    /// Limits how much of the budget one client has. `key` names the client that has sent a
    /// request. All requests with the same key have `max_bytes` together, and those that wait count
    /// as well.
    ///
    /// A request over that is refused with 503, and does not wait. A body that is longer than the
    /// whole share is refused with 413. **A request without a key (`None`) has no share**, and can
    /// take the whole budget. Use a key that a client cannot choose: its address, or the user that
    /// an outer layer has authenticated. An unchecked `Authorization` header is no such key.
    ///
    /// # Panics
    ///
    /// Panics if `max_bytes` is 0.
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use std::net::SocketAddr;
    /// use axum::extract::ConnectInfo;
    /// use tower_bodyguard::{BodyBudgetConfig, MIB};
    ///
    /// // With `into_make_service_with_connect_info::<SocketAddr>()`.
    /// let config = BodyBudgetConfig::new(512 * MIB).max_share(128 * MIB, |head| {
    ///     let peer = head.extensions.get::<ConnectInfo<SocketAddr>>()?;
    ///     Some(peer.ip())
    /// });
    /// # }
    /// ```
    #[must_use]
    #[track_caller]
    pub fn max_share<F, K>(mut self, max_bytes: u64, key: F) -> Self
    where
        F: Fn(&Parts) -> Option<K> + Send + Sync + 'static,
        K: Hash,
    {
        assert_ne!(
            max_bytes, 0,
            "a share of 0 bytes refuses all bodies: allow some"
        );
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
