//! Handshakes: clients that have not proved their address, and connections above the limit.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Instant,
};

use quinn::{ConnectionError, TransportConfig};
use quinn_proto::ConnectionHandle;
use testkit::{client::PATIENCE, tls::Certificate};
use tower_bodyguard_h3::Serve;

use crate::{
    h3_client,
    raw::{Request, connect, soon},
    servers::{self, app},
};

fn serve(configure: impl FnOnce(Serve<axum::Router>) -> Serve<axum::Router>) -> SocketAddr {
    let endpoint = servers::endpoint(&Certificate::new(), TransportConfig::default());
    let addr = endpoint.local_addr().unwrap();
    tokio::spawn(configure(tower_bodyguard_h3::serve(endpoint, app())).into_future());
    addr
}

/// A client that sends its first packet, and nothing after it.
struct HalfOpen(UdpSocket);

impl HalfOpen {
    fn connect(server: SocketAddr) -> Self {
        let config = h3_client::config(TransportConfig::default());
        let mut endpoint = quinn_proto::Endpoint::new(Arc::default(), None, true, None);
        let (_, mut connection): (ConnectionHandle, _) = endpoint
            .connect(Instant::now(), config, server, "localhost")
            .unwrap();
        let mut packet = Vec::new();
        let transmit = connection.poll_transmit(Instant::now(), 1, &mut packet);
        assert!(transmit.is_some(), "a client speaks first");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(server).unwrap();
        socket.send(&packet).unwrap();
        Self(socket)
    }

    /// Returns whether the server responds with a `Retry` packet (RFC 9000 §17.2.5).
    fn has_to_retry(&self) -> bool {
        let mut packet = [0; 2000];
        self.0.recv(&mut packet).unwrap();
        packet[0] & 0xf0 == 0xf0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn client_has_to_prove_its_address_among_many_handshakes() {
    let server = serve(|server| server);
    let clients: Vec<_> = (0..300)
        .map(|_| {
            let client = HalfOpen::connect(server);
            (client.has_to_retry(), client)
        })
        .collect();
    let had_to: Vec<_> = clients.iter().map(|(had_to, _)| *had_to).collect();
    assert_eq!(had_to, [vec![false; 256], vec![true; 44]].concat());
    // quinn does so by itself.
    let connection = connect(server).await;
    let mut request = Request::begin_and_end(&connection, "GET", None).await;
    assert_eq!(request.response().await.unwrap().text(), "hello");
}

#[tokio::test]
async fn connections_above_the_limit_are_refused() {
    let server = serve(|server| server.max_connections(1));
    let connection = connect(server).await;
    let endpoint = h3_client::endpoint(TransportConfig::default());
    let refused = soon(endpoint.connect(server, "localhost").unwrap()).await;
    assert!(
        matches!(&refused, Err(ConnectionError::ConnectionClosed(close)) if close.to_string().contains("refused")),
        "{refused:?}"
    );
    let mut request = Request::begin_and_end(&connection, "GET", None).await;
    assert_eq!(request.response().await.unwrap().text(), "hello");
}
