//! One client cannot exhaust the resources that all clients share: slots for lingering connections,
//! slots for lingering HTTP/2 streams, and the extended timeout.
//!
//! Each attack runs at the rate that sufficed before clients had shares, and at ten times that
//! rate. It runs from the address of the honest clients, and from another one.
// Other systems have no second address on the loopback interface.
#![cfg(all(feature = "axum", target_os = "linux"))]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use axum::{
    Router,
    http::{Request, StatusCode},
    routing::post,
};
use futures_util::future::join_all;
use testkit::{
    client::PATIENCE,
    crowd::{Drip, Paced, connect_from},
    h2::{Client, over, upload},
};
use tokio::{
    net::TcpStream,
    runtime::Runtime,
    time::{interval, sleep, timeout},
};
use tower_bodyguard::{Linger, LingerConfig, StreamLinger};

use crate::server::Server;

const HONEST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn served(linger: Linger) -> Server {
    let app = Router::new().route("/", post(|| async { StatusCode::UNAUTHORIZED }));
    Server::run_with(linger, |listener, linger| async move {
        tower_bodyguard::axum::serve(listener, app)
            .with_linger(&linger)
            .await
            .unwrap();
    })
}

fn until_lingering(server: &Server, connections: u64) {
    while server.linger.stats().lingering() < connections {
        thread::yield_now();
    }
}

/// Attacks 64 slots with 66 connections that send a byte each 100 ms, and 7 new connections a
/// second. Honest clients send 60 kB each 300 ms.
fn many_dripping_connections(from: IpAddr, times: u32) {
    let server = served(Linger::new(LingerConfig::new().max_connections(64)));
    let drip = Drip {
        from,
        first: 66,
        per_second: 7 * times,
        piece: 1,
        every: Duration::from_millis(100),
    };
    let _attack = drip.on(server.addr, "/");
    until_lingering(&server, 60);
    let honest = Paced {
        from: HONEST,
        pieces: 10,
        piece: 60_000,
        pause: Duration::from_millis(300),
    };
    assert_eq!(honest.delivered(10, server.addr, "/"), 10);
}

#[test]
fn dripping_connections_from_same_address_leave_slots() {
    many_dripping_connections(HONEST, 1);
}

#[test]
fn dripping_connections_at_tenfold_rate_leave_slots() {
    many_dripping_connections(HONEST, 10);
}

#[test]
fn dripping_connections_from_another_address_leave_slots() {
    many_dripping_connections(OTHER, 10);
}

/// One client sends faster in each of 66 connections than the honest clients in one each.
#[test]
fn many_fast_connections_leave_slots_to_slower_client() {
    let server = served(Linger::new(LingerConfig::new().max_connections(64)));
    let drip = Drip {
        from: OTHER,
        first: 66,
        per_second: 14,
        piece: 10_000,
        every: Duration::from_millis(100),
    };
    let _attack = drip.on(server.addr, "/");
    until_lingering(&server, 60);
    let honest = Paced {
        from: HONEST,
        pieces: 30,
        piece: 500,
        pause: Duration::from_millis(100),
    };
    assert_eq!(honest.delivered(10, server.addr, "/"), 10);
}

/// Attacks 64 slots from 80 addresses with one connection each at 1.5 kB/s. The honest clients
/// share one address, as behind NAT, and send 60 kB each 300 ms.
fn many_addresses(per_second: u32) {
    let server = served(Linger::new(LingerConfig::new().max_connections(64)));
    let drip = Drip {
        from: OTHER,
        first: 80,
        per_second,
        piece: 150,
        every: Duration::from_millis(100),
    };
    let from = (1..=80).map(|host| Ipv4Addr::new(127, 0, 1, host).into());
    let _attack = drip.on_from(from.collect(), server.addr, "/");
    until_lingering(&server, 60);
    let honest = Paced {
        from: HONEST,
        pieces: 20,
        piece: 60_000,
        pause: Duration::from_millis(300),
    };
    assert_eq!(honest.delivered(10, server.addr, "/"), 10);
}

#[test]
fn slow_connections_from_many_addresses_leave_slots_to_clients_of_one_address() {
    many_addresses(7);
}

#[test]
fn slow_connections_from_many_addresses_at_tenfold_rate_leave_slots() {
    many_addresses(70);
}

/// Attacks 64 slots with 66 silent connections and with new ones. Honest clients send 10 kB/s. At
/// 300 new connections a second, each slot changes hands within two pauses of an honest client.
fn silent_newcomers(from: IpAddr, per_second: u32) {
    let server = served(Linger::new(LingerConfig::new().max_connections(64)));
    let drip = Drip {
        from,
        first: 66,
        per_second,
        piece: 0,
        every: Duration::from_secs(60),
    };
    let _attack = drip.on(server.addr, "/");
    until_lingering(&server, 60);
    let honest = Paced {
        from: HONEST,
        pieces: 30,
        piece: 1_000,
        pause: Duration::from_millis(100),
    };
    assert_eq!(honest.delivered(10, server.addr, "/"), 10);
}

#[test]
fn silent_newcomers_from_same_address_leave_slots() {
    silent_newcomers(HONEST, 60);
}

#[test]
fn silent_newcomers_at_fivefold_rate_leave_slots() {
    silent_newcomers(HONEST, 300);
}

#[test]
fn silent_newcomers_from_another_address_leave_slots() {
    silent_newcomers(OTHER, 600);
}

/// Occupies more than half of 64 slots. Honest clients need three times the timeout at 200 kB/s.
fn pressure(from: IpAddr, times: u32) {
    let linger = Linger::new(
        LingerConfig::new()
            .max_connections(64)
            .timeout(Duration::from_secs(2))
            .extended_timeout(100 * 1024, Duration::from_secs(60)),
    );
    let server = served(linger);
    let drip = Drip {
        from,
        first: 40,
        per_second: 20 * times,
        piece: 1,
        every: Duration::from_millis(500),
    };
    let _attack = drip.on(server.addr, "/");
    until_lingering(&server, 36);
    let honest = Paced {
        from: HONEST,
        pieces: 60,
        piece: 20_000,
        pause: Duration::from_millis(100),
    };
    assert_eq!(honest.delivered(5, server.addr, "/"), 5);
}

#[test]
fn pressure_from_same_address_leaves_extended_timeout() {
    pressure(HONEST, 1);
}

#[test]
fn pressure_at_tenfold_rate_leaves_extended_timeout() {
    pressure(HONEST, 10);
}

#[test]
fn pressure_from_another_address_leaves_extended_timeout() {
    pressure(OTHER, 10);
}

async fn until_reading(server: &Server, streams: u64) {
    let reading = async {
        while server.linger.stats().reading < streams {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, reading).await.expect("they are open");
}

async fn client(from: IpAddr, addr: SocketAddr) -> Client {
    let socket = connect_from(from, addr).unwrap();
    socket.set_nonblocking(true).unwrap();
    over(TcpStream::from_std(socket).unwrap()).await
}

/// Opens requests that do not end, on each connection in turn. With each new one, sends a piece of
/// every body, unless `piece` is 0.
async fn open_streams(clients: Vec<Client>, per_second: u32, piece: usize) {
    let mut streams = Vec::new();
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    for client in clients.iter().cycle() {
        ticks.tick().await;
        let request = Request::post("http://test/").body(()).unwrap();
        // The server limits the number of concurrent streams.
        let client = client.clone();
        let mut client = client.ready().await.expect("the connection stays open");
        streams.push(client.send_request(request, false).unwrap().1);
        if piece > 0 {
            // Streams that were reset are removed.
            streams.retain_mut(|stream| stream.send_data(vec![0; piece].into(), false).is_ok());
        }
    }
}

/// Opens 36 streams a second that last 2 s each, for 64 slots. Honest clients send 20 MB before
/// they stop, as httpx does.
fn many_streams(from: IpAddr, times: u32) {
    const LENGTH: u64 = 20_000_000;
    let server = served(Linger::default());
    Runtime::new().unwrap().block_on(async {
        let attacker = client(from, server.addr).await;
        let attack = tokio::spawn(open_streams(vec![attacker], 36 * times, 0));
        until_reading(&server, 30).await;
        // No event reports that the slots are taken: streams without a slot differ from others only
        // in how they end.
        sleep(Duration::from_secs(2)).await;
        let honest = (0..10).map(|_| async {
            let client = client(HONEST, server.addr).await;
            upload(&client, "/", LENGTH).await
        });
        let mut delivered = 0;
        for seen in honest {
            let seen = seen.await;
            assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
            delivered += usize::from(seen.reset.is_none());
        }
        assert!(!attack.is_finished());
        attack.abort();
        assert_eq!(delivered, 10);
    });
}

#[test]
fn streams_from_same_address_leave_slots() {
    many_streams(HONEST, 1);
}

#[test]
fn streams_at_tenfold_rate_leave_slots() {
    many_streams(HONEST, 10);
}

#[test]
fn streams_from_another_address_leave_slots() {
    many_streams(OTHER, 10);
}

/// One client sends faster in each of 100 connections than an honest client in one.
#[test]
fn many_fast_streams_leave_slots_to_slower_client() {
    let streams = StreamLinger::new().timeout(Duration::from_secs(10));
    let server = served(Linger::new(LingerConfig::new().stream_linger(streams)));
    Runtime::new().unwrap().block_on(async {
        let attackers = join_all((0..100).map(|_| client(OTHER, server.addr))).await;
        let attack = tokio::spawn(open_streams(attackers, 50, 1_000));
        until_reading(&server, 64).await;
        let honest = client(HONEST, server.addr).await;
        let mut honest = honest.ready().await.unwrap();
        let request = Request::post("http://test/").body(()).unwrap();
        let (response, mut stream) = honest.send_request(request, false).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::UNAUTHORIZED);
        for piece in 0..30 {
            let sent = stream.send_data(vec![0; 500].into(), piece == 29);
            sent.expect("it is not reset");
            sleep(Duration::from_millis(100)).await;
        }
        assert!(!attack.is_finished());
        attack.abort();
    });
}
