use std::{sync::Arc, time::Instant};

use crate::shared::{connection::Connection, flow};

/// A record of whether a request body of a combined HTTP/2 connection holds up the connection's
/// flow-control window. It does from its beginning on, except while the handler waits for a frame.
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

    /// Records a poll of the body, and whether the handler waits for a frame now.
    #[inline]
    pub(super) fn polled(&mut self, is_pending: bool) {
        let flow = self.connection.flow();
        // Before the state changes, because the time until now belongs to the old state.
        flow::reply(|| flow.unread(now()));
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
