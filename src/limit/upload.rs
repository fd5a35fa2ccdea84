use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{body_budget::Reservation, grpc::Begun, settings::Settings};
use crate::{
    refusal::{Refusal, RefusalKind, RequestContext},
    shared::limit_signal::{LimitSignal, Violation},
};

/// An upload that is counted: what its body, the answer's future and the answer's body
/// share, in one allocation.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) signal: LimitSignal,
    asked: RequestContext,
    pub(super) settings: Arc<Settings>,
    /// The body's room in a budget.
    pub(super) reservation: Option<Reservation>,
    /// The response, where it is one of gRPC's and under way. Only its body asks: the
    /// lock is always free.
    begun: Mutex<Option<Begun>>,
}

impl Upload {
    pub(super) fn new(limit: u64, asked: RequestContext, settings: Arc<Settings>) -> Self {
        Self {
            signal: LimitSignal::new(limit),
            asked,
            settings,
            reservation: None,
            begun: Mutex::new(None),
        }
    }

    pub(super) fn reserving(self, reservation: Option<Reservation>) -> Self {
        Self {
            reservation,
            ..self
        }
    }

    /// A panic elsewhere leaves nothing half-done behind this lock.
    pub(super) fn begun(&self) -> MutexGuard<'_, Option<Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses the upload, at most once. The observer learns it here and nowhere else: the
    /// response may be out already, or its future dropped, and the client gone.
    pub(super) fn refuse(&self, kind: RefusalKind) {
        // First, so that nobody sees the response of a refusal that was not counted.
        self.settings.observe(&self.refused(kind));
        match kind {
            RefusalKind::TooSlow { rate } => self.signal.report_too_slow(rate),
            RefusalKind::OverBudget { retry_after } => {
                self.signal.report_no_room(retry_after.as_secs());
            }
            RefusalKind::Streamed { received } => self.signal.report(received),
            RefusalKind::Declared { .. } | RefusalKind::BadLength | RefusalKind::LengthRequired => {
                unreachable!("the head is judged before there is an upload")
            }
        }
    }

    /// Gives the body's room back.
    pub(super) fn end_reservation(&self) {
        if let Some(reservation) = &self.reservation {
            reservation.end();
        }
    }

    /// Whether the request is a gRPC call.
    pub(super) fn is_call(&self) -> bool {
        self.asked.call().is_some()
    }

    /// What is wrong with it, once something is.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let kind = match self.signal.violation()? {
            Violation::TooLong { received } => RefusalKind::Streamed { received },
            Violation::TooSlow { rate } => RefusalKind::TooSlow { rate },
            Violation::NoRoom { retry_after } => RefusalKind::OverBudget {
                retry_after: Duration::from_secs(retry_after),
            },
        };
        Some(self.refused(kind))
    }

    fn refused(&self, kind: RefusalKind) -> Refusal {
        let limit = self.signal.limit();
        self.settings.refusal(kind, Some(limit), self.asked.clone())
    }
}

#[cfg(test)]
impl Upload {
    pub(super) fn with_limit(limit: u64) -> Arc<Self> {
        let settings = Settings::new(crate::Limit::max(limit));
        Arc::new(Self::new(
            limit,
            RequestContext::default(),
            Arc::new(settings),
        ))
    }

    /// The upload of a gRPC call.
    pub(super) fn of_call(limit: u64, content_type: &str) -> Arc<Self> {
        let head = http::Request::post("/").version(http::Version::HTTP_2);
        let head = head.header("content-type", content_type).body(()).unwrap();
        let settings = Settings::new(crate::Limit::max(limit));
        let asked = settings.asked(&head.into_parts().0);
        Arc::new(Self::new(limit, asked, Arc::new(settings)))
    }
}
