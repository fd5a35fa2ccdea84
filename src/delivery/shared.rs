use std::{sync::Arc, time::Duration};

use super::{Drain, StreamLinger, streams::Streams};
use crate::{event::Observer, stall::STALL_TIMEOUT, tasks::Tasks};

/// What the services of one layer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) drain: Drain,
    pub(super) stall_timeout: Duration,
    pub(super) streams: Streams,
    pub(super) tasks: Arc<Tasks>,
    pub(super) observer: Observer,
}

impl Shared {
    pub(crate) fn new(
        drain: Drain,
        stall_timeout: Duration,
        stream_linger: StreamLinger,
        observer: Observer,
    ) -> Arc<Self> {
        Arc::new(Self {
            drain,
            stall_timeout,
            streams: Streams::new(stream_linger),
            tasks: Arc::default(),
            observer,
        })
    }

    /// What reads bodies on.
    pub(crate) fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            drain: Drain::default(),
            stall_timeout: STALL_TIMEOUT,
            streams: Streams::default(),
            tasks: Arc::default(),
            observer: Observer::default(),
        }
    }
}
