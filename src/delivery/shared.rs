use std::sync::Arc;

use super::{Drain, StreamLinger, streams::Streams};
use crate::tasks::Tasks;

/// What the services of one layer share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(super) drain: Drain,
    pub(super) streams: Streams,
    pub(super) tasks: Arc<Tasks>,
}

impl Shared {
    pub(crate) fn new(drain: Drain, stream_linger: StreamLinger) -> Arc<Self> {
        Arc::new(Self {
            drain,
            streams: Streams::new(stream_linger),
            tasks: Arc::default(),
        })
    }

    /// What reads bodies on.
    pub(crate) fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }
}
