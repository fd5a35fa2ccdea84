use std::{sync::Arc, time::Duration};

use http::Version;

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
    http2: Streams,
    http3: Streams,
    /// The tasks of the drains.
    pub(super) tasks: Arc<Tasks>,
    pub(super) observer: Observer,
}

impl DeliveryHandle {
    pub(crate) fn new(config: &DeliveryConfig) -> Arc<Self> {
        Arc::new(Self {
            drain: config.drain,
            stall_timeout: config.stall_timeout,
            http2: Streams::new(config.stream_linger),
            http3: Streams::new(config.http3()),
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
            http2: self.http2.child(),
            http3: self.http3.child(),
            tasks: Arc::new(self.tasks.child()),
            observer: self.observer.clone(),
        })
    }

    /// Returns the tasks of the drains.
    pub(crate) fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }

    /// Returns the settings, tasks and slots of the lingering streams of this version.
    pub(super) fn streams(&self, version: Multiplexed) -> &Streams {
        match version {
            Multiplexed::Http2 => &self.http2,
            Multiplexed::Http3 => &self.http3,
        }
    }

    /// Returns how many bodies are being discarded: those of drains, and of streams.
    pub(crate) fn reading(&self) -> usize {
        self.all_tasks().iter().map(|tasks| tasks.running()).sum()
    }

    fn all_tasks(&self) -> [&Arc<Tasks>; 3] {
        [&self.tasks, &self.http2.tasks, &self.http3.tasks]
    }

    /// Ends all drains and streams, and those that begin later.
    pub(crate) fn end(&self) {
        self.all_tasks().iter().for_each(|tasks| tasks.end());
    }

    /// Waits until no drain and no stream is left.
    pub(crate) async fn ended(&self) {
        for tasks in self.all_tasks() {
            tasks.ended().await;
        }
    }
}

/// A version of HTTP whose connections carry several streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Multiplexed {
    Http2,
    Http3,
}

impl Multiplexed {
    /// Returns `None` for HTTP/1.
    pub(super) fn of(version: Version) -> Option<Self> {
        match version {
            Version::HTTP_3 => Some(Self::Http3),
            Version::HTTP_2 => Some(Self::Http2),
            _ => None,
        }
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
}
