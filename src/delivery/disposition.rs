//! What delivery does with an unread body, as far as the request's head decides.

use std::sync::Arc;

use http::{Response, header::CONNECTION};
use http_body::Body;

use super::{
    drain::{self, Purpose},
    handle::DeliveryHandle,
    handoff::BodyHandoff,
    headers::has_token,
    policy::BodyAction,
    streams,
    unread_body::UnreadBody,
};
use crate::{
    refusal::{Refusal, RefusalKind},
    shared::{connection::Connection, peer::Peer},
};

#[derive(Clone, Debug)]
pub(super) struct Disposition {
    pub(super) handle: Arc<DeliveryHandle>,
    /// The connection whose write gate to hold: HTTP/2, combined, with a declared length.
    pub(super) gate: Option<Arc<Connection>>,
    /// The client whose slots a drain takes.
    pub(super) peer: Peer,
    /// HTTP/2: the body's stream ends by itself, and its connection goes on.
    pub(super) multiplexed: bool,
    /// Both sides would keep the connection.
    pub(super) persistent: bool,
}

impl Disposition {
    /// Takes note of what the response says of its connection.
    pub(super) fn apply_response<B>(&mut self, response: &Response<B>) {
        let says_close = has_token(response.headers(), &CONNECTION, "close");
        self.persistent &= !says_close && !is_too_slow(response);
    }

    /// Deals with a rest of which the answer says that the connection closes.
    pub(super) fn close<B>(&self, rest: UnreadBody<B>, handoff: &BodyHandoff<B, Self>, asked: bool)
    where
        B: Body + Unpin + Send + 'static,
    {
        if rest.is_joined() {
            rest.close();
        } else if asked {
            // Without a hook, reading on is what delivers the answer.
            drain::spawn(
                rest,
                &self.handle,
                Purpose::Deliver,
                handoff.progress(),
                self.peer,
            );
        }
    }

    /// Deals with a rest that was let go of after the answer: nothing can be said
    /// any more.
    pub(super) fn release<B>(&self, rest: UnreadBody<B>, handoff: &BodyHandoff<B, Self>)
    where
        B: Body + Unpin + Send + 'static,
    {
        if rest.is_end_stream() {
            return rest.finish();
        }
        if self.multiplexed {
            let gate = self.gate.as_ref();
            return streams::linger(&self.handle, rest, handoff.progress(), gate, self.peer);
        }
        let purpose = match rest
            .facts(false, self.persistent)
            .action(self.handle.drain.budget())
        {
            BodyAction::Drain => Purpose::Keep,
            // The head is out, so that reading has hyper send no `100 Continue` any more.
            BodyAction::TakeOrClose | BodyAction::Close | BodyAction::CloseUnasked => {
                Purpose::Deliver
            }
        };
        drain::spawn(rest, &self.handle, purpose, handoff.progress(), self.peer);
    }
}

/// A client that is too slow to wait for is so for a drain, too (RFC 9110 §15.5.9).
fn is_too_slow<B>(response: &Response<B>) -> bool {
    let refusal = response.extensions().get::<Refusal>();
    refusal.is_some_and(|refusal| matches!(refusal.kind(), RefusalKind::TooSlow { .. }))
}
