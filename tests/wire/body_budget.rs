//! A budget for all bodies: requests that find no room are told so, and others are served.
#![cfg(feature = "axum")]

use std::{io::Write, net::TcpStream, time::Duration};

use testkit::{
    LARGE, MIB, SendFirst,
    client::{FRAMINGS, Framing, read_response},
};
use tower_bodyguard::{BodyBudget, BodyBudgetConfig, BodyGuardLayer};

use crate::server::{Server, counting};

/// A client that has sent a part of its body, and so holds the room for all of it.
fn holding(server: &Server, length: u64) -> TcpStream {
    let mut socket = TcpStream::connect(server.addr).unwrap();
    let upload = SendFirst::post("/", Framing::ContentLength, length);
    socket.write_all(upload.head().as_bytes()).unwrap();
    socket.write_all(&[0; 1000]).unwrap();
    socket
}

fn wait_for(budget: &BodyBudget, used: u64) {
    while budget.used_bytes() != used {
        std::thread::yield_now();
    }
}

#[test]
fn refusal_for_want_of_room_arrives_at_a_client_that_sends_first() {
    let budget = BodyBudget::max_bytes(100 * MIB);
    let app = counting().layer(BodyGuardLayer::axum(100 * MIB).budget(&budget));
    for server in Server::both(&app) {
        let mut held = holding(&server, 90 * MIB);
        wait_for(&budget, 90 * MIB);
        for framing in FRAMINGS {
            let upload = SendFirst::post("/", framing, LARGE).header("Connection: close");
            let response = upload.to(server.addr).assert_delivered(503);
            assert_eq!(response.header("retry-after"), Some("1"), "{response:?}");
        }
        // An upload that fits is served beside it.
        let small = SendFirst::post("/", Framing::ContentLength, 9 * MIB);
        small
            .header("Connection: close")
            .to(server.addr)
            .assert_delivered(200);
        held.write_all(&vec![0; (90 * MIB) as usize - 1000])
            .unwrap();
        assert_eq!(read_response(&mut held).unwrap().status, 200);
        wait_for(&budget, 0);
    }
}

#[test]
fn uploads_that_wait_for_room_are_all_served() {
    let config = BodyBudgetConfig::new(10 * MIB).wait_timeout(Duration::from_secs(60));
    let budget = BodyBudget::new(config);
    let app = counting().layer(BodyGuardLayer::axum(8 * MIB).budget(&budget));
    for server in Server::both(&app) {
        let addr = server.addr;
        let clients: Vec<_> = (0..20)
            .map(|_| {
                std::thread::spawn(move || {
                    let upload = SendFirst::post("/", Framing::ContentLength, 8 * MIB);
                    upload
                        .header("Connection: close")
                        .to(addr)
                        .assert_delivered(200);
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        wait_for(&budget, 0);
        assert_eq!(budget.waiting(), 0);
    }
}
