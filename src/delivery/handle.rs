use std::{sync::Arc, time::Duration};

use super::config::{DeliveryConfig, Drain, StreamLinger};
use crate::{
    observe::Observer,
    tasks::{Slots, Tasks},
};

/// What the services of one layer share.
#[derive(Debug)]
pub(crate) struct DeliveryHandle {
    pub(super) drain: Drain,
    pub(super) stall_timeout: Duration,
    pub(super) streams: Streams,
    /// The drains.
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

    /// For one of several servers: its bodies are read on until it ends them, or this one does.
    pub(crate) fn child(&self) -> Arc<Self> {
        Arc::new(Self {
            drain: self.drain,
            stall_timeout: self.stall_timeout,
            streams: self.streams.child(),
            tasks: Arc::new(self.tasks.child()),
            observer: self.observer.clone(),
        })
    }

    /// The drains.
    pub(crate) fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }

    /// Returns how many bodies are read on: drains, and streams of HTTP/2.
    pub(crate) fn reading(&self) -> usize {
        self.tasks.running() + self.streams.tasks().running()
    }

    /// Ends what reads on, and what is still to come.
    pub(crate) fn end(&self) {
        self.tasks.end();
        self.streams.tasks().end();
    }

    /// Waits until nothing reads on.
    pub(crate) async fn ended(&self) {
        self.tasks.ended().await;
        self.streams.tasks().ended().await;
    }
}

/// The settings, and the streams that linger by them.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) settings: StreamLinger,
    /// All streams, those whose answers are not out yet among them.
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
