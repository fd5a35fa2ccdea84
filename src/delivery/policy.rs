//! Decides what happens to an unread body: facts in, an action out.

/// What is known when an HTTP/1 response is ready, or when the body is dropped later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// How many bytes are yet to come; `None` with chunked coding.
    pub(super) owed: Option<u64>,
    /// The service has polled the body: then hyper has sent `100 Continue` to a waiting client.
    pub(super) touched: bool,
    /// The client waits for `100 Continue` before it sends.
    pub(super) expects_continue: bool,
    /// The response refuses the body as too large.
    pub(super) too_large: bool,
    /// Both sides would keep the connection: HTTP/1.1, and none says `close`.
    pub(super) persistent: bool,
}

/// What to do with the unread body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyAction {
    /// Read it, and keep the connection.
    Drain,
    /// Read what has arrived already, without waiting. Keep the connection if that was all of
    /// it, and close it otherwise. hyper, too, reads once more before it gives a body up
    /// (`proto/h1/conn.rs`, `poll_drain_or_close_read`).
    TakeOrClose,
    /// Close the connection after the response.
    Close,
    /// Close the connection, and never poll the body: a poll makes hyper send `100 Continue`,
    /// and the client its upload (RFC 9110 §10.1.1).
    CloseUnasked,
}

impl Facts {
    /// `budget` is how many bytes a kept connection is worth.
    pub(super) fn action(self, budget: u64) -> BodyAction {
        if self.expects_continue && !self.touched {
            return BodyAction::CloseUnasked;
        }
        let worth_it = match self.owed {
            Some(owed) => owed <= budget,
            // A rest of unknown length is most often the last chunk's end that an
            // extractor left unread. Not so where nobody began to read, or where
            // the body proved too large.
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

/// In bytes, more than hyper can have read of a body that nobody asked for: its read buffer
/// holds up to 417 KB (`proto/h1/io.rs`, `DEFAULT_MAX_BUFFER_SIZE`), and one frame more is
/// on its way to the service.
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
