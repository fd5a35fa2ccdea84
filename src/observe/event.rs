//! Events and the observer that is notified of them.

use std::{
    fmt,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    budget::{Discarding, StopReason},
    refusal::Refusal,
};

/// An event in one of the parts of this crate, of which an [`Observer`] is notified.
///
/// ```
/// use tower_bodyguard::{Event, Linger, LingerConfig, Observer};
///
/// let observer = Observer::new(|event: &Event<'_>| match event {
///     Event::Refused(refusal) => eprintln!("{refusal}"),
///     Event::Lingered(discarded) => eprintln!("{} bytes discarded", discarded.bytes),
///     _ => {}
/// });
/// let linger = Linger::new(LingerConfig::new().observer(observer));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A limit layer refuses a request.
    ///
    /// The event happens when the layer decides, no matter which response the client gets. It
    /// happens once for each layer that refuses the request.
    Refused(&'a Refusal),
    /// [`Delivery`](crate::Delivery) has drained a request body, to keep the connection or to
    /// deliver a response.
    Drained(Discarded),
    /// [`Delivery`](crate::Delivery) has drained the body of an HTTP/2 or HTTP/3 stream after its
    /// response.
    StreamLingered(Discarded),
    /// A limit by route (`Limit::route`, feature `axum`) met a request without a route, and the
    /// smallest of its limits applies.
    ///
    /// A layer reports this once. The layer itself logs it, and `Observer::tracing` does not.
    RouteUnknown {
        /// The path of the request, as the client sent it.
        path: &'a str,
        /// The limit that applies, in bytes, or `None` for no limit.
        limit: Option<u64>,
    },
    /// Another limit, inside or outside the limit layer, refused a body that the layer admits.
    ///
    /// The service responded with 413, or the body ended in an error of
    /// `http_body_util::Limited`. A layer reports this once. The layer itself logs it, and
    /// `Observer::tracing` does not.
    SmallerLimit {
        /// The layer's own limit, in bytes, or `None` for no limit.
        limit: Option<u64>,
    },
    /// A lingering close has ended: it discarded the bytes that still arrived.
    Lingered(Discarded),
}

/// The result of a drain or a lingering close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Discarded {
    /// The number of bytes that were discarded.
    pub bytes: u64,
    /// The time that it took.
    pub lasted: Duration,
    /// The reason why it stopped.
    pub reason: StopReason,
    /// The address of the client.
    ///
    /// `None` if the connection is not known, as for a [`DeliveryLayer`](crate::DeliveryLayer)
    /// alone. `None` also if the socket has no address or is of a custom type, as in
    /// [`LingerConfig::peer_key`](crate::LingerConfig::peer_key).
    pub peer: Option<SocketAddr>,
}

impl Discarded {
    /// Returns the result of a drain or lingering close that ends now.
    pub(crate) fn new(
        discarding: &Discarding,
        reason: StopReason,
        peer: Option<SocketAddr>,
    ) -> Self {
        Self {
            bytes: discarding.discarded(),
            lasted: discarding.lasted(Instant::now().into_std()),
            reason,
            peer,
        }
    }
}

/// A callback that is notified of each [`Event`].
///
/// It is cheap to clone. Pass the same observer to all parts of this crate.
///
/// It is called in the server's own tasks when the event happens, so it should not block. A panic
/// in it is caught.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<Observe>>);

type Observe = dyn Fn(&Event<'_>) + Send + Sync;

impl Observer {
    /// Makes an observer that calls `observe` for each event.
    pub fn new<F>(observe: F) -> Self
    where
        F: Fn(&Event<'_>) + Send + Sync + 'static,
    {
        Self(Some(Arc::new(observe)))
    }

    /// Returns an observer that notifies `self` and then `other`.
    ///
    /// ```
    /// use tower_bodyguard::{Counters, Observer};
    ///
    /// let counters = Counters::default();
    /// let log = Observer::new(|event| eprintln!("{event:?}"));
    /// let observer = counters.observer().and(log);
    /// ```
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (&self.0, &other.0) {
            (Some(_), Some(_)) => Self::new(move |event| {
                self.observe(event);
                other.observe(event);
            }),
            _ => Self(self.0.or(other.0)),
        }
    }

    pub(crate) fn observe(&self, event: &Event<'_>) {
        if let Some(observe) = &self.0 {
            // The panic hook has reported the panic. Catch it, because this may run in a drop.
            let _ = catch_unwind(AssertUnwindSafe(|| observe(event)));
        }
    }

    /// Notifies the observer, if there is one. `event`, which may read the clock, is called only then.
    pub(crate) fn observe_with<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        if self.0.is_some() {
            self.observe(&event());
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let observes = if self.0.is_some() { ".." } else { "nothing" };
        write!(f, "Observer({observes})")
    }
}
