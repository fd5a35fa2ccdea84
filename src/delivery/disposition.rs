//! Applies what the request's head determines about an unread body.

use std::sync::Arc;

use http::{Response, Version, header::CONNECTION};
use http_body::Body;

use super::{
    context::DeliveryContext,
    drain::{self, Purpose},
    handle::{DeliveryHandle, Multiplexed},
    handoff::BodyHandoff,
    headers::has_token,
    policy::BodyAction,
    streams,
    unread_body::UnreadBody,
};
use crate::{
    refusal::Refusal,
    shared::{connection::LeftBody, peer::Peer},
};

#[derive(Clone, Debug)]
pub(super) struct Disposition {
    pub(super) context: Arc<DeliveryContext>,
    /// The client whose slots a drain takes: see [`DeliveryContext::key_of_head`].
    pub(super) key: Option<u64>,
    /// Whether to hold the write gate of the connection, if it is combined. Set for streams
    /// whose body has a known length.
    pub(super) is_gated: bool,
    /// Set for HTTP/2 and HTTP/3, where a stream can end while its connection goes on.
    pub(super) multiplexed: Option<Multiplexed>,
    /// Whether both sides would keep the connection.
    pub(super) persistent: bool,
    /// The body that the half-close waits for. `None` for HTTP/1.0, where the close may be what
    /// ends the response.
    pub(super) left: Option<LeftBody>,
}

impl Disposition {
    pub(super) fn handle(&self) -> &Arc<DeliveryHandle> {
        &self.context.handle
    }

    /// Returns the client whose slots a drain takes.
    pub(super) fn peer(&self) -> Peer {
        self.context.peer(self.key)
    }

    /// Clears `persistent` if the response says `Connection: close` or refuses a client as too
    /// slow, and `left` if the response itself is HTTP/1.0.
    pub(super) fn apply_response<B>(&mut self, response: &Response<B>) {
        self.left
            .take_if(|_| response.version() == Version::HTTP_10);
        let says_close = has_token(response.headers(), &CONNECTION, "close");
        self.persistent &= !says_close && !is_too_slow(response);
    }

    /// Handles an unread body whose response says `Connection: close`.
    pub(super) fn close<B>(&self, rest: UnreadBody<B>, handoff: &BodyHandoff<B, Self>, asked: bool)
    where
        B: Body + Unpin + Send + 'static,
    {
        if rest.is_combined() {
            // A client that still waits for `100 Continue` sends no body.
            rest.close(self.left.filter(|_| asked));
        } else if asked {
            // Without a socket wrapper, only a drain delivers the response.
            drain::spawn(
                rest,
                self.handle(),
                Purpose::Deliver,
                handoff.progress(),
                self.peer(),
            );
        }
    }

    /// Handles an unread body that the service dropped after the response. No header can be added
    /// any more.
    pub(super) fn release<B>(&self, rest: UnreadBody<B>, handoff: &BodyHandoff<B, Self>)
    where
        B: Body + Unpin + Send + 'static,
    {
        if rest.is_end_stream() {
            return rest.finish();
        }
        if let Some(version) = self.multiplexed {
            let gate = self.context.connection.as_ref().filter(|_| self.is_gated);
            let response = handoff.progress();
            return streams::linger(self.handle(), version, rest, response, gate, self.peer());
        }
        let purpose = match rest
            .facts(false, self.persistent)
            .action(self.handle().drain.budget())
        {
            BodyAction::Drain => Purpose::Keep,
            // The response head is out, so reading no longer makes hyper send `100 Continue`.
            BodyAction::TakeOrClose | BodyAction::Close | BodyAction::CloseUnasked => {
                Purpose::Deliver
            }
        };
        drain::spawn(
            rest,
            self.handle(),
            purpose,
            handoff.progress(),
            self.peer(),
        );
    }
}

/// Returns whether the limit layer refused the client as too slow. A drain would be too slow as
/// well, so its connection is not kept. A 408 of another service does not count.
fn is_too_slow<B>(response: &Response<B>) -> bool {
    let refusal = response.extensions().get::<Refusal>();
    refusal.is_some_and(|refusal| refusal.kind().is_slow())
}
