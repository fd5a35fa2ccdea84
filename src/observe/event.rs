//! What an operator sees.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    budget::{Discarding, StopReason},
    refusal::Refusal,
};

/// Something that one of the parts has done for a client.
///
/// ```
/// use tower_bodyguard::{Event, Linger, LingerConfig, Observer};
///
/// let observer = Observer::new(|event: &Event<'_>| match event {
///     Event::Refused(refusal) => eprintln!("{refusal}"),
///     Event::Lingered(discarded) => eprintln!("{} bytes thrown away", discarded.bytes),
///     _ => {}
/// });
/// let linger = Linger::new(LingerConfig::new().observer(observer));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The limit layer refuses a request. It is observed when the limit is reached, whatever
    /// becomes of the response: once for each layer that refuses the request.
    Refused(&'a Refusal),
    /// Delivery has read a body on, to keep its connection or to deliver an answer.
    Drained(Discarded),
    /// Delivery has read a stream of HTTP/2 on after its answer.
    StreamLingered(Discarded),
    /// A limit by route (`Limit::route`, feature `axum`) met a request without a route, and the
    /// smallest of its limits applies. A layer says it once. It is logged by the layer itself,
    /// and not by `Observer::tracing`.
    RouteUnknown {
        /// The path of the request, as the client sent it.
        path: &'a str,
        /// The limit that applies, in bytes; `None` for no limit.
        limit: Option<u64>,
    },
    /// Another limit, within the guarded service or around it, refused a body that the layer
    /// admits: the service responded with 413, or the body ended in an error of
    /// `http_body_util::Limited`. A layer says it once, and logs it itself, as above.
    SmallerLimit {
        /// The layer's own limit, in bytes; `None` for no limit.
        limit: Option<u64>,
    },
    /// The hook has discarded what still came on a connection that closes.
    Lingered(Discarded),
}

/// What was read only to be thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Discarded {
    /// How many bytes.
    pub bytes: u64,
    /// How long it took.
    pub lasted: Duration,
    /// Why it stopped.
    pub reason: StopReason,
}

impl Discarded {
    /// What has just ended.
    pub(crate) fn new(discarding: &Discarding, reason: StopReason) -> Self {
        Self {
            bytes: discarding.discarded(),
            lasted: discarding.lasted(Instant::now().into_std()),
            reason,
        }
    }
}

/// Is told of each [`Event`]. It is cheap to clone, and one is for all parts.
///
/// It is called where the event happens, in the server's own tasks: it should not block.
/// A panic in it is caught, and goes no further.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<Observe>>);

type Observe = dyn Fn(&Event<'_>) + Send + Sync;

impl Observer {
    /// Calls `observe` for each event.
    pub fn new<F>(observe: F) -> Self
    where
        F: Fn(&Event<'_>) + Send + Sync + 'static,
    {
        Self(Some(Arc::new(observe)))
    }

    /// Tells both.
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
            // The panic hook has said it; a drop may be what brought us here.
            let _ = catch_unwind(AssertUnwindSafe(|| observe(event)));
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let observes = if self.0.is_some() { ".." } else { "nothing" };
        write!(f, "Observer({observes})")
    }
}
