use std::{sync::Arc, time::Instant};

use crate::shared::{connection::Connection, flow};

/// A request body of a combined HTTP/2 connection, as far as it may hold the connection's
/// window: it does from its beginning on, unless it is waited for.
pub(super) struct WindowHold {
    connection: Arc<Connection>,
    holds: bool,
}

impl WindowHold {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        connection.flow().hold(now);
        Self {
            connection,
            holds: true,
        }
    }

    /// Takes note of a poll of the body: whether it is waited for.
    #[inline]
    pub(super) fn polled(&mut self, is_pending: bool) {
        let flow = self.connection.flow();
        // Before anything changes: until now it was as it is.
        flow::answer(|| flow.unread(now()));
        match (self.holds, is_pending) {
            (true, true) => flow.release(now),
            (false, false) => flow.hold(now),
            _ => return,
        }
        self.holds = !is_pending;
    }
}

impl Drop for WindowHold {
    fn drop(&mut self) {
        if self.holds {
            self.connection.flow().release(now);
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
