use std::sync::Arc;

use super::{Drain, StreamLinger, streams::Streams};
use crate::{event::Observer, tasks::Tasks};

/// What the services of one layer share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(super) drain: Drain,
    pub(super) streams: Streams,
    pub(super) tasks: Arc<Tasks>,
    pub(super) observer: Observer,
}

impl Shared {
    pub(crate) fn new(drain: Drain, stream_linger: StreamLinger, observer: Observer) -> Arc<Self> {
        Arc::new(Self {
            drain,
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
