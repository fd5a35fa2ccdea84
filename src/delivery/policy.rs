//! Decides what happens to an unread body: facts in, an action out.

/// The facts about an unread body when an HTTP/1 response is ready, or when the body is dropped
/// later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// How many body bytes are still to come. `None` with chunked coding.
    pub(super) owed: Option<u64>,
    /// Whether the service has polled the body. If so, hyper has sent `100 Continue` to a client
    /// that waits for it.
    pub(super) touched: bool,
    /// Whether the client waits for `100 Continue` before it sends.
    pub(super) expects_continue: bool,
    /// Whether the response refuses the body as too large.
    pub(super) too_large: bool,
    /// Whether both sides would keep the connection: HTTP/1.1, and neither says `close`.
    pub(super) persistent: bool,
}

/// An action on an unread body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyAction {
    /// Drain it, and keep the connection.
    Drain,
    /// Read the bytes that have arrived already, without waiting. If they complete the body, keep
    /// the connection, and otherwise close it. hyper, too, reads one more time before it gives up on a
    /// body (`proto/h1/conn.rs`, `poll_drain_or_close_read`).
    TakeOrClose,
    /// Close the connection after the response.
    Close,
    /// Close the connection, and never poll the body. A poll would make hyper send `100 Continue`,
    /// and then the client would send its upload (RFC 9110 §10.1.1).
    CloseUnasked,
}

impl Facts {
    /// Returns the action. `budget` is the number of bytes that a kept connection is worth.
    pub(super) fn action(self, budget: u64) -> BodyAction {
        if self.expects_continue && !self.touched {
            return BodyAction::CloseUnasked;
        }
        let worth_it = match self.owed {
            Some(owed) => owed <= budget,
            // An unread body of unknown length is most often the end of the last chunk, which an
            // extractor left unread. It is not if the service never began to read, or if the body
            // proved too large.
            None => self.touched && !self.too_large,
        };
        if !self.persistent {
            BodyAction::Close
        } else if worth_it {
            BodyAction::Drain
        } else if self.owed.is_none_or(|owed| owed <= IN_PASSING) {
            BodyAction::TakeOrClose
        } else {
            BodyAction::Close
        }
    }
}

/// More bytes than hyper can have read of a body that the service never polled. Its read buffer
/// holds up to 417 KB (`proto/h1/io.rs`, `DEFAULT_MAX_BUFFER_SIZE`), and one more frame is on its
/// way to the service.
pub(super) const IN_PASSING: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUDGET: u64 = 1 << 20;

    const UPLOAD: Facts = Facts {
        owed: Some(100_000),
        touched: false,
        expects_continue: false,
        too_large: false,
        persistent: true,
    };

    fn action(facts: Facts) -> BodyAction {
        facts.action(BUDGET)
    }

    #[test]
    fn a_small_known_rest_is_drained() {
        assert_eq!(action(UPLOAD), BodyAction::Drain);
        let too_large = Facts {
            too_large: true,
            ..UPLOAD
        };
        assert_eq!(action(too_large), BodyAction::Drain);
        let at = Facts {
            owed: Some(BUDGET),
            ..UPLOAD
        };
        assert_eq!(action(at), BodyAction::Drain);
        let above = Facts {
            owed: Some(BUDGET + 1),
            ..UPLOAD
        };
        assert_eq!(action(above), BodyAction::Close);
    }

    #[test]
    fn unknown_rest_is_drained_if_somebody_read_and_taken_otherwise() {
        let unknown = Facts {
            owed: None,
            ..UPLOAD
        };
        assert_eq!(action(unknown), BodyAction::TakeOrClose);
        let read = Facts {
            touched: true,
            ..unknown
        };
        assert_eq!(action(read), BodyAction::Drain);
        let refused = Facts {
            too_large: true,
            ..read
        };
        assert_eq!(action(refused), BodyAction::TakeOrClose);
    }

    #[test]
    fn small_rest_above_the_budget_is_taken_if_it_is_there() {
        let rest = |owed| Facts {
            owed: Some(owed),
            ..UPLOAD
        };
        assert_eq!(rest(IN_PASSING).action(0), BodyAction::TakeOrClose);
        assert_eq!(rest(IN_PASSING + 1).action(0), BodyAction::Close);
        let closing = Facts {
            persistent: false,
            ..rest(1)
        };
        assert_eq!(closing.action(0), BodyAction::Close);
    }

    #[test]
    fn a_waiting_client_is_not_asked() {
        let waits = Facts {
            expects_continue: true,
            ..UPLOAD
        };
        assert_eq!(action(waits), BodyAction::CloseUnasked);
        let told = Facts {
            touched: true,
            ..waits
        };
        assert_eq!(action(told), BodyAction::Drain);
    }

    fn facts() -> impl Strategy<Value = Facts> {
        let owed = prop::option::of(0u64..3 << 20);
        (owed, any::<[bool; 4]>()).prop_map(
            |(owed, [touched, expects_continue, too_large, persistent])| Facts {
                owed,
                touched,
                expects_continue,
                too_large,
                persistent,
            },
        )
    }

    proptest! {
        #[test]
        fn a_drained_connection_is_one_to_keep(facts in facts(), budget in 0u64..2 << 20) {
            if facts.action(budget) == BodyAction::Drain {
                prop_assert!(facts.persistent);
                prop_assert!(facts.owed.is_none_or(|owed| owed <= budget));
            }
        }

        #[test]
        fn never_asks_before_the_client_was_told_to_go_on(facts in facts()) {
            if facts.expects_continue && !facts.touched {
                prop_assert_eq!(action(facts), BodyAction::CloseUnasked);
            } else {
                prop_assert_ne!(action(facts), BodyAction::CloseUnasked);
            }
        }
    }
}
