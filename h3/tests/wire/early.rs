//! Early responses arrive, whole and first.

use std::net::SocketAddr;

use axum::{Router, extract::ConnectInfo, routing::get};
use futures_util::future::join_all;
use quinn::TransportConfig;
use sha2::{Digest, Sha256};
use testkit::{MIB, tls::Certificate};
use tower_bodyguard::{Linger, LingerConfig, StreamLinger};

use crate::{
    h3_client,
    raw::{H3_NO_ERROR, LARGE, Request, connect, soon},
    servers::{self, LIMIT, Loop, Server, app, hex},
};

fn serve(which: Loop, linger: &Linger) -> Server {
    let certificate = Certificate::new();
    which.serve(
        servers::endpoint(&certificate, TransportConfig::default()),
        app(),
        linger,
    )
}

fn reads_at_most(bytes: u64) -> Linger {
    let streams = StreamLinger::http3().max_bytes(bytes);
    Linger::new(LingerConfig::new().http3_stream_linger(streams))
}

/// The response with its end has arrived when the server asks to stop, and the code says that
/// nothing is wrong.
#[tokio::test]
async fn response_ends_before_the_server_asks_to_stop_with_no_error() {
    let server = serve(Loop::Ours, &reads_at_most(MIB));
    let connection = connect(server.addr).await;
    for (path, length, status) in [
        ("/", Some(LARGE), 413),
        ("/", None, 413),
        ("/private", Some(LARGE), 401),
        ("/private", None, 401),
        ("/nothing", Some(LARGE), 404),
    ] {
        let mut request = Request::begin(&connection, "POST", path, length).await;
        let (code, _) = request.send_until_stopped().await;
        let response = request.arrived().expect("the response came first");
        assert_eq!(
            (response.status, code),
            (status, H3_NO_ERROR.into()),
            "{path} {length:?}"
        );
    }
}

/// Without slots, and while the client is silent, too.
#[tokio::test]
async fn silent_client_is_asked_to_stop_with_no_error_after_the_response() {
    let streams = StreamLinger::http3().max_streams(0);
    let linger = Linger::new(LingerConfig::new().http3_stream_linger(streams));
    let server = serve(Loop::Ours, &linger);
    let connection = connect(server.addr).await;
    let mut request = Request::begin(&connection, "POST", "/private", Some(LARGE)).await;
    let code = soon(request.send.stopped()).await.unwrap();
    assert_eq!(request.arrived().unwrap().status, 401);
    assert_eq!(code, Some(H3_NO_ERROR.into()));
}

/// The control: h3-axum asks to stop with code 0.
#[tokio::test]
async fn h3_axum_asks_to_stop_with_a_code_that_http3_does_not_have() {
    let server = serve(Loop::H3Axum, &Linger::default());
    let connection = connect(server.addr).await;
    let mut request = Request::begin(&connection, "POST", "/private", Some(LARGE)).await;
    let (code, _) = request.send_until_stopped().await;
    assert_eq!(code, 0u32.into());
}

/// A client that sends everything first gets the response, and none of its writes fails.
#[tokio::test]
async fn whole_upload_is_read_after_its_response() {
    for which in [Loop::Ours, Loop::H3AxumWithLayer] {
        let server = serve(which, &Linger::default());
        let connection = connect(server.addr).await;
        for (path, length, status) in [
            ("/", Some(LARGE), 413),
            ("/", None, 413),
            ("/private", Some(LARGE), 401),
            ("/nothing", None, 404),
        ] {
            let mut request = Request::begin(&connection, "POST", path, length).await;
            let sent = request.send_body(usize::try_from(LARGE).unwrap()).await;
            assert_eq!(sent, Ok(()), "{which:?} {path} {length:?}");
            assert_eq!(request.response().await.unwrap().status, status);
        }
    }
}

/// The control of the test above.
#[tokio::test]
async fn h3_axum_alone_does_not_read_the_upload() {
    let server = serve(Loop::H3Axum, &Linger::default());
    let connection = connect(server.addr).await;
    let mut request = Request::begin(&connection, "POST", "/private", Some(LARGE)).await;
    assert!(
        request
            .send_body(usize::try_from(LARGE).unwrap())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn accepted_upload_arrives_whole() {
    let server = serve(Loop::Ours, &Linger::default());
    let connection = connect(server.addr).await;
    let length = usize::try_from(LIMIT).unwrap();
    let expected = hex(&Sha256::digest(vec![0; length]));
    for declared in [Some(LIMIT), None] {
        let mut request = Request::begin(&connection, "POST", "/", declared).await;
        request.send_body(length).await.unwrap();
        let response = request.response().await.unwrap();
        assert_eq!((response.status, response.text()), (200, &*expected));
        let mut request =
            Request::begin(&connection, "POST", "/", declared.map(|one| one + 1)).await;
        request.send_body(length + 1).await.unwrap();
        assert_eq!(request.response().await.unwrap().status, 413);
    }
}

/// Refused, accepted and bodiless requests, one after the other.
#[tokio::test]
async fn twenty_requests_on_a_connection() {
    let server = serve(Loop::Ours, &reads_at_most(MIB));
    let connection = connect(server.addr).await;
    for number in 0..20 {
        let (method, length, status) = match number % 4 {
            0 => ("POST", 8 * MIB, 413),
            1 => ("GET", 0, 200),
            2 => ("POST", 3000, 200),
            _ => ("HEAD", 0, 200),
        };
        let declared = (length > 0).then_some(length);
        let mut request = Request::begin(&connection, method, "/", declared).await;
        // A refused one may be stopped.
        let _ = request.send_body(usize::try_from(length).unwrap()).await;
        assert_eq!(request.response().await.unwrap().status, status, "{number}");
    }
}

#[tokio::test]
async fn ten_uploads_at_once_of_which_five_are_refused() {
    let server = serve(Loop::Ours, &Linger::default());
    let connection = connect(server.addr).await;
    let statuses = join_all((0..10).map(async |number| {
        let length = if number % 2 == 0 { 10 * MIB } else { LIMIT };
        let mut request = Request::begin(&connection, "POST", "/", Some(length)).await;
        request
            .send_body(usize::try_from(length).unwrap())
            .await
            .unwrap();
        request.response().await.unwrap().status
    }));
    assert_eq!(statuses.await, [413, 200].repeat(5));
}

/// The client of h3 itself, with bodies that it sends whole before it reads.
#[tokio::test]
async fn h3s_own_client_reads_every_early_response() {
    let server = serve(Loop::Ours, &Linger::default());
    for scenario in [
        "413_declared",
        "413_streamed",
        "401",
        "404",
        "accepted",
        "get",
    ] {
        let played = soon(h3_client::play(server.addr, scenario)).await;
        assert_eq!(played, Ok(()), "{scenario}");
    }
}

#[tokio::test]
async fn handler_sees_the_address_of_the_client() {
    let app = Router::new().route(
        "/",
        get(async |ConnectInfo(addr): ConnectInfo<SocketAddr>| addr.to_string()),
    );
    let endpoint = servers::endpoint(&Certificate::new(), TransportConfig::default());
    let server = Loop::Ours.serve(endpoint, app, &Linger::default());
    let connection = connect(server.addr).await;
    let mut request = Request::begin(&connection, "GET", "/", None).await;
    request.send.finish().unwrap();
    let addr: SocketAddr = request.response().await.unwrap().text().parse().unwrap();
    assert!(addr.ip().is_loopback() && addr != server.addr);
}
