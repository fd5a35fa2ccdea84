use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Refusal, grpc::Begun, overrun::Overrun, refusal::Asked, settings::Settings};

/// An upload that is counted: what its body, the answer's future and the answer's body
/// share, in one allocation.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) overrun: Overrun,
    asked: Asked,
    pub(super) settings: Arc<Settings>,
    /// The response, where it is one of gRPC's and under way. Only its body asks: the
    /// lock is always free.
    begun: Mutex<Option<Begun>>,
}

impl Upload {
    pub(super) fn new(limit: u64, asked: Asked, settings: Arc<Settings>) -> Self {
        Self {
            overrun: Overrun::new(limit),
            asked,
            settings,
            begun: Mutex::new(None),
        }
    }

    /// A panic elsewhere leaves nothing half-done behind this lock.
    pub(super) fn begun(&self) -> MutexGuard<'_, Option<Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong with it, once something is.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let kind = self.overrun.kind()?;
        let limit = self.overrun.limit();
        Some(self.settings.streamed(kind, limit, self.asked.clone()))
    }
}

#[cfg(test)]
impl Upload {
    pub(super) fn with_limit(limit: u64) -> Arc<Self> {
        let settings = Settings::new(super::Limit::bytes(limit));
        Arc::new(Self::new(limit, Asked::default(), Arc::new(settings)))
    }
}
