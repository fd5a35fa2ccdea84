//! The limits on an unread body, and that nothing is left of it.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, http::StatusCode};
use futures_util::future::join_all;
use quinn::{ConnectionError, TransportConfig, VarInt};
use testkit::{MIB, tls::Certificate};
use tokio::net::UdpSocket;
use tower_bodyguard::{Counters, Linger, LingerConfig, StopReason, StreamLinger};

use crate::{
    raw::{
        H3_EXCESSIVE_LOAD, H3_NO_ERROR, H3_REQUEST_CANCELLED, H3_REQUEST_REJECTED, LARGE, Request,
        connect, connect_with, data, received, soon,
    },
    servers::{self, LIMIT, Loop, app},
};

struct Counted {
    addr: SocketAddr,
    linger: Linger,
    counters: Counters,
}

impl Counted {
    fn serve(streams: StreamLinger) -> Self {
        let config = LingerConfig::new().http3_stream_linger(streams);
        Self::serve_with(config, TransportConfig::default())
    }

    fn serve_with(config: LingerConfig, transport: TransportConfig) -> Self {
        let counters = Counters::default();
        let linger = Linger::new(config.observer(counters.observer()));
        let endpoint = servers::endpoint(&Certificate::new(), transport);
        let server = Loop::Ours.serve(endpoint, app(), &linger);
        Self {
            addr: server.addr,
            linger,
            counters,
        }
    }

    fn with_reason(&self, reason: StopReason) -> u64 {
        self.counters.snapshot().stream_lingers.with_reason(reason)
    }

    /// Waits until one stream has stopped for this reason, and none is left.
    async fn stopped(&self, reason: StopReason) {
        soon(async {
            while self.with_reason(reason) == 0 || self.linger.stats().reading > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn client_that_sends_forever_is_stopped_at_each_limit() {
    let short = Duration::from_millis(100);
    let for_short = StreamLinger::http3()
        .extended_timeout(0, None)
        .timeout(short);
    for (streams, reason) in [
        (StreamLinger::http3().max_bytes(MIB), StopReason::MaxBytes),
        (for_short, StopReason::Timeout),
        (StreamLinger::http3().max_streams(0), StopReason::Evicted),
    ] {
        let server = Counted::serve(streams);
        let connection = connect(server.addr).await;
        let mut request = Request::begin(&connection, "POST", "/", None).await;
        let (code, _) = request.send_until_stopped().await;
        assert_eq!(code, H3_NO_ERROR.into());
        assert_eq!(request.arrived().unwrap().status, 413);
        server.stopped(reason).await;
        // The connection goes on.
        let mut request = Request::begin_and_end(&connection, "GET", None).await;
        assert_eq!(request.response().await.unwrap().text(), "hello");
    }
}

#[tokio::test]
async fn silent_client_is_stopped_at_the_idle_timeout() {
    let server = Counted::serve(StreamLinger::http3().idle_timeout(Duration::from_millis(100)));
    let connection = connect(server.addr).await;
    let mut request = Request::begin(&connection, "POST", "/", Some(LARGE)).await;
    let code = soon(request.send.stopped()).await.unwrap();
    assert_eq!(code, Some(H3_NO_ERROR.into()));
    assert_eq!(request.arrived().unwrap().status, 413);
    server.stopped(StopReason::IdleTimeout).await;
}

/// The settings of a lingering close hold for HTTP/3, if it has no settings of its own.
#[tokio::test]
async fn streams_linger_like_connections() {
    let config = LingerConfig::new().max_bytes(MIB);
    let server = Counted::serve_with(config, TransportConfig::default());
    let connection = connect(server.addr).await;
    let mut request = Request::begin(&connection, "POST", "/", Some(LARGE)).await;
    let (code, _) = request.send_until_stopped().await;
    assert_eq!(code, H3_NO_ERROR.into());
    server.stopped(StopReason::MaxBytes).await;
}

#[tokio::test]
async fn reset_and_lost_connection_end_a_stream() {
    let server = Counted::serve(StreamLinger::http3());
    let connection = connect(server.addr).await;
    let mut request = Request::begin(&connection, "POST", "/", Some(LARGE)).await;
    request.send.write_all(&data(&[0; 1000])).await.unwrap();
    assert_eq!(request.response().await.unwrap().status, 413);
    request.send.reset(H3_REQUEST_CANCELLED.into()).unwrap();
    server.stopped(StopReason::Reset).await;
    let before = server.with_reason(StopReason::Reset);

    let mut request = Request::begin(&connection, "POST", "/", Some(LARGE)).await;
    assert_eq!(request.response().await.unwrap().status, 413);
    connection.close(0u32.into(), b"");
    soon(async {
        while server.with_reason(StopReason::Reset) == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(server.linger.stats().reading, 0);
}

/// The client vanishes without a word, and so does its connection after quinn's idle timeout.
#[tokio::test]
async fn vanished_client_leaves_nothing_behind() {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(VarInt::from_u32(300).into()));
    let server = Counted::serve_with(LingerConfig::new(), transport);
    let client = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let client = client.unwrap();
    let addr = server.addr;
    let (sent, responded) = tokio::sync::oneshot::channel();
    client.spawn(async move {
        let connection = connect(addr).await;
        let mut request = Request::begin(&connection, "POST", "/", Some(LARGE)).await;
        sent.send(request.response().await.unwrap().status).unwrap();
        pending::<()>().await;
        drop((connection, request));
    });
    assert_eq!(soon(responded).await.unwrap(), 413);
    client.shutdown_background();
    server.stopped(StopReason::Reset).await;
}

/// A client that reads nothing before it has sent everything, so that the server cannot send the
/// response.
#[tokio::test]
async fn client_whose_window_is_full_sends_everything_first() {
    let long = "x".repeat(100_000);
    let app = Router::new().fallback(async move || (StatusCode::UNAUTHORIZED, long));
    let endpoint = servers::endpoint(&Certificate::new(), TransportConfig::default());
    let server = Loop::Ours.serve(endpoint, app, &Linger::default());
    let mut transport = TransportConfig::default();
    // Just enough for the settings of HTTP/3, without which h3 does not begin.
    transport.receive_window(1000u32.into());
    let connection = connect_with(server.addr, transport).await;
    let mut request = Request::begin(&connection, "POST", "/", Some(LARGE)).await;
    request
        .send_body(usize::try_from(LARGE).unwrap())
        .await
        .unwrap();
    connection.set_receive_window(VarInt::MAX);
    let response = request.response().await.unwrap();
    assert_eq!((response.status, response.body.len()), (401, 100_000));
}

/// A limit is reached while the client does not let the response through. The client is not asked
/// to stop before it has the response.
#[tokio::test]
async fn limit_before_the_end_of_the_response_waits_for_it() {
    let counters = Counters::default();
    let streams = StreamLinger::http3().max_bytes(MIB);
    let config = LingerConfig::new().http3_stream_linger(streams);
    let linger = Linger::new(config.observer(counters.observer()));
    let long = "x".repeat(100_000);
    let app = Router::new().fallback(async move || (StatusCode::UNAUTHORIZED, long));
    let endpoint = servers::endpoint(&Certificate::new(), TransportConfig::default());
    let addr = Loop::Ours.serve(endpoint, app, &linger).addr;
    let server = Counted {
        addr,
        linger,
        counters,
    };
    let mut transport = TransportConfig::default();
    transport.receive_window(1000u32.into());
    let connection = connect_with(addr, transport).await;
    let Request { mut send, recv } = Request::begin(&connection, "POST", "/", Some(LARGE)).await;
    let stopped = send.stopped();
    let sending = tokio::spawn(async move { send.write_all(&data(&[0; 8 << 20])).await });
    server.stopped(StopReason::MaxBytes).await;
    soon(received(&connection)).await;
    assert!(!sending.is_finished(), "the client is asked to stop");
    connection.set_receive_window(VarInt::MAX);
    let (send, _) = connection.open_bi().await.unwrap();
    let response = Request { send, recv }.response().await.unwrap();
    assert_eq!((response.status, response.body.len()), (401, 100_000));
    assert_eq!(soon(stopped).await, Ok(Some(H3_NO_ERROR.into())));
    assert!(soon(sending).await.unwrap().is_err());
}

#[tokio::test]
async fn thousand_refused_streams_leave_nothing_behind() {
    let server = Counted::serve(StreamLinger::http3());
    let connection = connect(server.addr).await;
    for _ in 0..20 {
        join_all((0..50).map(async |_| {
            let mut request = Request::begin(&connection, "POST", "/", Some(LIMIT + 1)).await;
            request.send.write_all(&data(&[0; 10_000])).await.unwrap();
            assert_eq!(request.response().await.unwrap().status, 413);
            request.send.reset(H3_REQUEST_CANCELLED.into()).unwrap();
        }))
        .await;
    }
    soon(async {
        while server.linger.stats().reading > 0 || server.with_reason(StopReason::Reset) < 1000 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut request = Request::begin_and_end(&connection, "GET", None).await;
    assert_eq!(request.response().await.unwrap().text(), "hello");
}

/// The limit holds across all connections, and every client has its response.
#[tokio::test]
async fn hundred_connections_share_the_slots() {
    let server = Counted::serve(StreamLinger::http3().max_streams(10));
    let connections = join_all((0..100).map(async |_| {
        let connection = connect(server.addr).await;
        let mut request = Request::begin(&connection, "POST", "/", Some(LARGE)).await;
        assert_eq!(request.response().await.unwrap().status, 413);
        (connection, request)
    }))
    .await;
    soon(async {
        while server.with_reason(StopReason::Evicted) < 90 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(server.linger.stats().reading <= 10);
    drop(connections);
}

/// A small body that has arrived with its head is read to its end, although there are no slots.
#[tokio::test]
async fn body_that_has_arrived_needs_no_slot() {
    let server = Counted::serve(StreamLinger::http3().max_streams(0));
    let connection = connect(server.addr).await;
    for _ in 0..20 {
        let mut request = Request::begin_with(&connection, "/private", &data(&[0; 500])).await;
        assert_eq!(request.response().await.unwrap().status, 401);
    }
    let lingers = server.counters.snapshot().stream_lingers;
    assert_eq!(lingers.with_reason(StopReason::Completed), 20);
    assert_eq!(lingers.bytes, 20 * 500);
}

/// The client sends on ten refused streams as fast as it can.
#[tokio::test]
async fn uploads_arrive_beside_streams_that_linger() {
    let server = Counted::serve(StreamLinger::http3());
    let mut transport = TransportConfig::default();
    // The windows of the streams limit the client, and not a buffer that they share.
    transport.send_window(u64::MAX);
    let connection = connect_with(server.addr, transport).await;
    let requests = join_all((0..10).map(async |_| {
        let mut request = Request::begin(&connection, "POST", "/", Some(LARGE * 1000)).await;
        assert_eq!(request.response().await.unwrap().status, 413);
        request
    }));
    let send = async |mut request: Request| {
        let frame = data(&[0; 10_000]);
        while request.send.write_all(&frame).await.is_ok() {}
    };
    let lingering: Vec<_> = requests
        .await
        .into_iter()
        .map(|request| tokio::spawn(send(request)))
        .collect();
    let length = usize::try_from(LIMIT).unwrap();
    for _ in 0..3 {
        let mut request = Request::begin(&connection, "POST", "/", Some(LIMIT)).await;
        request.send_body(length).await.unwrap();
        assert_eq!(request.response().await.unwrap().status, 200);
    }
    assert_eq!(server.linger.stats().reading, 10);
    assert!(lingering.iter().all(|task| !task.is_finished()));
}

/// The server has sent the response, and the client never acknowledges it.
#[tokio::test]
async fn unacknowledged_response_does_not_hold_the_body() {
    let server = Counted::serve(StreamLinger::http3().idle_timeout(Duration::from_millis(100)));
    let relay = Relay::start(server.addr).await;
    let connection = connect(relay.addr).await;
    soon(received(&connection)).await;
    relay.is_one_way.store(true, Ordering::Relaxed);
    let request = Request::begin(&connection, "POST", "/", Some(LARGE)).await;
    server.stopped(StopReason::IdleTimeout).await;
    drop(request);
}

/// Passes on the packets between a client and a server.
struct Relay {
    addr: SocketAddr,
    /// Whether the packets to the client are lost.
    is_one_way: Arc<AtomicBool>,
}

impl Relay {
    async fn start(server: SocketAddr) -> Self {
        let [to_client, to_server] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0"));
        let (to_client, to_server) = (to_client.await.unwrap(), to_server.await.unwrap());
        let addr = to_client.local_addr().unwrap();
        to_server.connect(server).await.unwrap();
        let is_one_way = Arc::new(AtomicBool::new(false));
        let loses = Arc::clone(&is_one_way);
        tokio::spawn(async move {
            let mut client = None;
            let (mut up, mut down) = ([0; 65536], [0; 65536]);
            loop {
                tokio::select! {
                    Ok((length, from)) = to_client.recv_from(&mut up) => {
                        client = Some(from);
                        let _ = to_server.send(&up[..length]).await;
                    }
                    Ok(length) = to_server.recv(&mut down) => {
                        let client = client.expect("the client speaks first");
                        if !loses.load(Ordering::Relaxed) {
                            let _ = to_client.send_to(&down[..length], client).await;
                        }
                    }
                }
            }
        });
        Self { addr, is_one_way }
    }
}

#[tokio::test]
async fn head_that_does_not_come_is_rejected() {
    let endpoint = servers::endpoint(&Certificate::new(), TransportConfig::default());
    let addr = endpoint.local_addr().unwrap();
    let serve =
        tower_bodyguard_h3::serve(endpoint, app()).header_timeout(Duration::from_millis(100));
    tokio::spawn(serve.into_future());
    let connection = connect(addr).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&[1]).await.unwrap();
    let reset = soon(recv.read_to_end(100)).await;
    let rejected = quinn::ReadError::Reset(H3_REQUEST_REJECTED.into());
    assert_eq!(reset, Err(quinn::ReadToEndError::Read(rejected)));
    // The connection goes on.
    let mut request = Request::begin_and_end(&connection, "GET", None).await;
    assert_eq!(request.response().await.unwrap().text(), "hello");
}

/// h3 keeps the number of each stream that ends before its head.
#[tokio::test]
async fn connection_of_many_streams_without_a_head_is_closed() {
    let server = Counted::serve(StreamLinger::http3());
    let connection = connect(server.addr).await;
    let closed = connection.closed();
    let opening = async {
        let mut opened = 0;
        while let Ok((mut send, _)) = connection.open_bi().await {
            let _ = send.write_all(&[1]).await;
            let _ = send.reset(H3_REQUEST_CANCELLED.into());
            opened += 1;
        }
        opened
    };
    let (closed, opened) = soon(async { tokio::join!(closed, opening) }).await;
    let ConnectionError::ApplicationClosed(close) = closed else {
        panic!("{closed}");
    };
    assert_eq!(close.error_code, H3_EXCESSIVE_LOAD.into());
    assert!(opened > 10_000);
}
