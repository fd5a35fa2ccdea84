//! Clients that lose what they have not read when the server resets the connection. The TCP of Windows
//! and macOS does that to every client. Linux keeps the data readable, so that some clients receive
//! a response by luck.
#![cfg(feature = "axum")]

use testkit::{
    LARGE, MIB, SendFirst,
    client::{FRAMINGS, LosesUnread, Outcome, connect},
};

use crate::server::{Server, guarded, limited};

/// Enough to exceed the buffers of a socket on the loopback interface.
const UPLOAD: u64 = 20_000_000;

/// How often each client tries.
const TRIES: usize = 10;

fn upload(server: &Server, request: &SendFirst) -> Outcome {
    request.over(LosesUnread::new(connect(server.addr)))
}

#[test]
fn refusal_arrives_at_a_client_that_loses_unread_data() {
    for server in Server::both(&guarded(4 * MIB)) {
        for framing in FRAMINGS {
            let request = SendFirst::post("/", framing, LARGE);
            upload(&server, &request).assert_delivered(413);
        }
    }
}

/// Negative control: on a stock server, no such client receives anything, and the clients of Linux
/// that receive something lose it here.
#[test]
fn stock_server_loses_every_refusal_for_a_client_that_loses_unread_data() {
    let server = Server::plain(limited(4 << 20));
    for framing in FRAMINGS {
        let request = SendFirst::post("/", framing, UPLOAD);
        let kept = (0..TRIES).filter(|_| !request.to(server.addr).received.is_empty());
        println!(
            "{framing:?}: {} of {TRIES} with Linux's receiver",
            kept.count()
        );
        for _ in 0..TRIES {
            let outcome = upload(&server, &request);
            assert!(outcome.was_reset(), "{outcome:?}");
            assert!(outcome.received.is_empty(), "{}", outcome.text());
        }
    }
}
