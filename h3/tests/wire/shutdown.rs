//! The shutdown: requests end, and unread bodies delay it for a limited time.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use futures_util::future::join_all;
use quinn::{ConnectionError, TransportConfig};
use testkit::tls::Certificate;
use tokio::{sync::oneshot, task::JoinHandle};
use tower_bodyguard::{Linger, LingerConfig};

use crate::{
    h3_client,
    raw::{LARGE, Request, Response, connect, connect_with, data, received, soon},
    servers::{self, app},
};

fn serve(app: Router, linger: &Linger) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let endpoint = servers::endpoint(&Certificate::new(), TransportConfig::default());
    let addr = endpoint.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let server = tower_bodyguard_h3::serve(endpoint, app)
        .with_linger(linger)
        .with_graceful_shutdown(async {
            let _ = stopped.await;
        });
    let server = tokio::spawn(async move { server.await.unwrap() });
    (addr, stop, server)
}

/// The clients never stop to send, and the shutdown does not wait for that.
#[tokio::test]
async fn ten_refused_uploads_have_their_responses() {
    let linger = Linger::new(LingerConfig::new().shutdown_timeout(Duration::from_millis(300)));
    let (addr, stop, server) = serve(app(), &linger);
    let connection = connect(addr).await;
    let mut requests = join_all((0..10).map(async |_| {
        let mut request = Request::begin(&connection, "POST", "/", Some(LARGE * 1000)).await;
        request.send.write_all(&data(&[0; 10_000])).await.unwrap();
        request
    }))
    .await;
    soon(received(&connection)).await;
    stop.send(()).unwrap();
    let statuses = join_all(requests.iter_mut().map(async |request| {
        let Request { send, recv } = request;
        let sending = async {
            // Until the server ends the stream or the connection.
            while send.write_all(&data(&[0; 10_000])).await.is_ok() {}
        };
        let (_, bytes) = tokio::join!(sending, recv.read_to_end(1 << 20));
        Response::parse(&bytes.unwrap()).status
    }));
    assert_eq!(soon(statuses).await, [413; 10]);
    soon(server).await.unwrap();
    assert_eq!(linger.stats().reading, 0);
}

#[tokio::test]
async fn request_in_progress_has_its_response_and_later_ones_are_rejected() {
    let (release, released) = oneshot::channel::<()>();
    let released = std::sync::Arc::new(tokio::sync::Mutex::new(Some(released)));
    let app = Router::new().route(
        "/",
        get(move || async move {
            let released = released.lock().await.take();
            let _ = released.expect("there is one request").await;
            "done"
        }),
    );
    let (addr, stop, server) = serve(app, &Linger::default());
    let connection = connect(addr).await;
    let mut request = Request::begin_and_end(&connection, "GET", None).await;
    // The server has accepted it when it has accepted a later one, whose head never comes.
    let (mut open, _recv) = connection.open_bi().await.unwrap();
    open.write_all(&[1]).await.unwrap();
    let mut goaway = soon(connection.accept_uni()).await.unwrap();
    stop.send(()).unwrap();
    // The control stream: its type, the settings, and then `GOAWAY` (0x07) with the first request
    // that is not processed. Streams 0 and 4 are.
    let mut control = Vec::new();
    soon(async {
        while !control.ends_with(&[0x07, 1, 8]) {
            let chunk = goaway.read_chunk(100, true).await.unwrap().unwrap();
            control.extend_from_slice(&chunk.bytes);
        }
    })
    .await;
    let mut late = Request::begin_and_end(&connection, "GET", None).await;
    assert!(late.response().await.is_err());
    // A new connection is refused immediately, and not only after a timeout.
    let connecting = h3_client::endpoint(TransportConfig::default()).connect(addr, "localhost");
    let refused = soon(connecting.unwrap()).await;
    assert!(
        matches!(refused, Err(ConnectionError::ConnectionClosed(_))),
        "{refused:?}"
    );
    drop(open);
    release.send(()).unwrap();
    assert_eq!(request.response().await.unwrap().text(), "done");
    soon(server).await.unwrap();
}

/// Each client learns that it may send its next request again, elsewhere.
#[tokio::test]
async fn idle_connection_gets_goaway_and_does_not_delay_the_shutdown() {
    for _ in 0..10 {
        let (addr, stop, server) = serve(app(), &Linger::default());
        let connection = connect(addr).await;
        let mut request = Request::begin_and_end(&connection, "GET", None).await;
        assert_eq!(request.response().await.unwrap().text(), "hello");
        let mut control = soon(connection.accept_uni()).await.unwrap();
        // The server knows that the response has arrived.
        soon(received(&connection)).await;
        stop.send(()).unwrap();
        let mut frames = Vec::new();
        while let Ok(Some(chunk)) = soon(control.read_chunk(100, true)).await {
            frames.extend_from_slice(&chunk.bytes);
        }
        assert!(frames.ends_with(&[0x07, 1, 4]), "{frames:02x?}");
        soon(server).await.unwrap();
        soon(connection.closed()).await;
    }
}

/// A client that gives h3's control stream no room, and a connection without a request.
#[tokio::test]
async fn client_with_a_window_of_zero_does_not_delay_the_shutdown() {
    let (addr, stop, server) = serve(app(), &Linger::default());
    let mut transport = TransportConfig::default();
    transport.receive_window(0u32.into());
    let connection = connect_with(addr, transport).await;
    soon(received(&connection)).await;
    stop.send(()).unwrap();
    soon(server).await.unwrap();
}
