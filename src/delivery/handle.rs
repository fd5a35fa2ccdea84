use std::{sync::Arc, time::Duration};

use super::config::{DeliveryConfig, Drain, StreamLinger};
use crate::{
    observe::Observer,
    tasks::{Slots, Tasks},
};

/// The state that the services of one layer share.
#[derive(Debug)]
pub(crate) struct DeliveryHandle {
    pub(super) drain: Drain,
    pub(super) stall_timeout: Duration,
    pub(super) streams: Streams,
    /// The tasks of the drains.
    pub(super) tasks: Arc<Tasks>,
    pub(super) observer: Observer,
}

impl DeliveryHandle {
    pub(crate) fn new(config: &DeliveryConfig) -> Arc<Self> {
        Arc::new(Self {
            drain: config.drain,
            stall_timeout: config.stall_timeout,
            streams: Streams::new(config.stream_linger),
            tasks: Arc::new(Tasks::new(config.drain.most())),
            observer: config.observer.clone(),
        })
    }

    /// Returns a handle for one of several servers. Its drains and streams are read until it ends
    /// them, or until this handle does.
    pub(crate) fn child(&self) -> Arc<Self> {
        Arc::new(Self {
            drain: self.drain,
            stall_timeout: self.stall_timeout,
            streams: self.streams.child(),
            tasks: Arc::new(self.tasks.child()),
            observer: self.observer.clone(),
        })
    }

    /// Returns the tasks of the drains.
    pub(crate) fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }

    /// Returns how many bodies are being discarded: those of drains, and of HTTP/2 streams.
    pub(crate) fn reading(&self) -> usize {
        self.tasks.running() + self.streams.tasks().running()
    }

    /// Ends all drains and streams, and those that begin later.
    pub(crate) fn end(&self) {
        self.tasks.end();
        self.streams.tasks().end();
    }

    /// Waits until no drain and no stream is left.
    pub(crate) async fn ended(&self) {
        self.tasks.ended().await;
        self.streams.tasks().ended().await;
    }
}

/// The settings of lingering streams, with their tasks and slots.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) settings: StreamLinger,
    /// All streams that are being read, including those whose response is not out yet.
    pub(super) tasks: Arc<Tasks>,
    pub(super) slots: Arc<Slots>,
}

impl Streams {
    pub(super) fn new(settings: StreamLinger) -> Self {
        Self {
            settings,
            tasks: Arc::default(),
            slots: Arc::new(Slots::new(settings.max_streams)),
        }
    }

    pub(super) fn child(&self) -> Self {
        Self {
            settings: self.settings,
            tasks: Arc::new(self.tasks.child()),
            slots: Arc::clone(&self.slots),
        }
    }

    pub(super) fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }
}
