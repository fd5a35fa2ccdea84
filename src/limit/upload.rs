use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    body_budget::{Holding, NoRoom, Reservation},
    grpc::Begun,
    settings::Settings,
};
use crate::{
    refusal::{Refusal, RefusalKind, RequestContext},
    shared::limit_signal::{LimitSignal, Violation},
};

/// The state of a counted upload, which the request body, the response future and the response
/// body share in one allocation.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) signal: LimitSignal,
    request: RequestContext,
    pub(super) settings: Arc<Settings>,
    /// The service has read the body to its end.
    has_ended: AtomicBool,
    /// The body's room in a budget.
    pub(super) reservation: Option<Reservation>,
    /// The gRPC response that has begun, if there is one. Only the response body uses it, so the
    /// lock is always free.
    begun: Mutex<Option<Begun>>,
}

impl Upload {
    #[inline]
    pub(super) fn new(
        limit: u64,
        request: RequestContext,
        settings: Arc<Settings>,
        reservation: Option<Reservation>,
    ) -> Self {
        Self {
            signal: LimitSignal::new(limit),
            request,
            settings,
            has_ended: AtomicBool::new(false),
            reservation,
            begun: Mutex::new(None),
        }
    }

    /// Locks the gRPC response. A panic elsewhere leaves nothing half-done behind this lock.
    pub(super) fn begun(&self) -> MutexGuard<'_, Option<Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses the upload, at most once. This is the only place that notifies the observer. At
    /// this time the response may have been sent, its future dropped, or the client gone.
    pub(super) fn refuse(&self, kind: RefusalKind) {
        // First, so that the refusal is counted before its response can be seen.
        self.settings.observe(&self.refused(kind));
        self.signal.report(violation(kind));
    }

    /// Takes the room that a body of so many bytes needs.
    #[inline]
    pub(super) fn grow_room(&self, received: u64) -> Result<(), NoRoom> {
        match &self.reservation {
            Some(reservation) => reservation.grow_to(received),
            None => Ok(()),
        }
    }

    /// Stores that the service has read the body to its end.
    pub(super) fn body_has_ended(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }

    /// Returns whether the service has read the body to its end.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    /// Marks the thread as running this request, if its body has room in a budget.
    #[inline]
    pub(super) fn hold_room(&self) -> Option<Holding> {
        self.reservation.as_ref().map(Reservation::hold)
    }

    /// Gives the body's room back.
    pub(super) fn end_reservation(&self) {
        if let Some(reservation) = &self.reservation {
            reservation.end();
        }
    }

    /// Returns whether the request is a gRPC call.
    pub(super) fn is_call(&self) -> bool {
        self.request.call().is_some()
    }

    /// Returns the refusal, once the upload is over its limit or too slow.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        Some(self.refused(refusal_kind(self.signal.violation()?)))
    }

    fn refused(&self, kind: RefusalKind) -> Refusal {
        let limit = self.signal.limit();
        self.settings
            .refusal(kind, Some(limit), self.request.clone())
    }
}

fn violation(kind: RefusalKind) -> Violation {
    match kind {
        RefusalKind::Streamed { received } => Violation::TooLong { received },
        RefusalKind::TooSlow { rate } => Violation::TooSlow { rate },
        RefusalKind::IdleTimeout { timeout } => Violation::Idle {
            nanoseconds: nanoseconds(timeout),
        },
        RefusalKind::DeadlineExceeded { deadline } => Violation::Late {
            nanoseconds: nanoseconds(deadline),
        },
        RefusalKind::OverBudget { retry_after } => Violation::NoRoom {
            retry_after: retry_after.as_secs(),
        },
        RefusalKind::Declared { .. } | RefusalKind::BadLength | RefusalKind::LengthRequired => {
            unreachable!("the head is checked before there is an upload")
        }
    }
}

fn refusal_kind(violation: Violation) -> RefusalKind {
    match violation {
        Violation::TooLong { received } => RefusalKind::Streamed { received },
        Violation::TooSlow { rate } => RefusalKind::TooSlow { rate },
        Violation::Idle { nanoseconds } => RefusalKind::IdleTimeout {
            timeout: Duration::from_nanos(nanoseconds),
        },
        Violation::Late { nanoseconds } => RefusalKind::DeadlineExceeded {
            deadline: Duration::from_nanos(nanoseconds),
        },
        Violation::NoRoom { retry_after } => RefusalKind::OverBudget {
            retry_after: Duration::from_secs(retry_after),
        },
    }
}

/// A timeout that has passed is shorter than the 584 years that fit.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
impl Upload {
    pub(super) fn with_limit(limit: u64) -> Arc<Self> {
        let settings = Settings::new(crate::Limit::max(limit));
        Arc::new(Self::new(
            limit,
            RequestContext::default(),
            Arc::new(settings),
            None,
        ))
    }

    /// Makes the upload of a gRPC call.
    pub(super) fn of_call(limit: u64, content_type: &str) -> Arc<Self> {
        let head = http::Request::post("/").version(http::Version::HTTP_2);
        let head = head.header("content-type", content_type).body(()).unwrap();
        let settings = Settings::new(crate::Limit::max(limit));
        let request = settings.request_context(&head.into_parts().0);
        Arc::new(Self::new(limit, request, Arc::new(settings), None))
    }
}
