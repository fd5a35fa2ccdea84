//! Upgraded connections are left alone, and `ConnectInfo` still works.
#![cfg(feature = "axum")]

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr},
    sync::{Arc, Mutex, mpsc},
};

use axum::{
    Router,
    extract::{
        ConnectInfo, Request,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
#[cfg(unix)]
use axum::{extract::connect_info::Connected, serve::IncomingStream};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
#[cfg(unix)]
use testkit::client::connect_unix;
use testkit::client::{PATIENCE, connect, read_head, read_response};
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
#[cfg(unix)]
use tower_bodyguard::axum::LingerListener;

use crate::server::Server;

/// Returns an app with a tunnel. The server says goodbye, closes its sending side, reads to the
/// end, and reports how many bytes it read.
fn tunnel() -> (Router, mpsc::Receiver<usize>) {
    let (told, tells) = mpsc::channel();
    let told = Arc::new(Mutex::new(told));
    let serve = move |request: Request| async move {
        let upgrade = hyper::upgrade::on(request);
        tokio::spawn(async move {
            let mut tunnel = TokioIo::new(upgrade.await.unwrap());
            let mut first = [0; 5];
            tunnel.read_exact(&mut first).await.unwrap();
            tunnel.write_all(b"goodbye").await.unwrap();
            tunnel.shutdown().await.unwrap();
            let mut rest = Vec::new();
            tunnel.read_to_end(&mut rest).await.unwrap();
            told.lock().unwrap().send(first.len() + rest.len()).unwrap();
        });
        let headers = [("connection", "upgrade"), ("upgrade", "tunnel")];
        let response: Response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
        response
    };
    (Router::new().route("/", get(serve)), tells)
}

#[test]
fn a_tunnel_is_readable_after_its_half_close() {
    for serve in [Server::wrapped, Server::combined] {
        let (app, tells) = tunnel();
        let server = serve(app);
        let mut socket = connect(server.addr);
        let ask = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: tunnel\r\n\r\n";
        socket.write_all(ask).unwrap();
        assert!(read_head(&mut socket).starts_with("HTTP/1.1 101 "));
        socket.write_all(b"hello").unwrap();
        let mut goodbye = String::new();
        socket.read_to_string(&mut goodbye).unwrap();
        assert_eq!(goodbye, "goodbye");
        // The server has half-closed, and every byte still reaches it.
        socket.write_all(&vec![0; 10_000_000]).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(tells.recv_timeout(PATIENCE).unwrap(), 10_000_005);
    }
}

#[test]
fn connect_info_goes_on_working() {
    let app = || {
        let from = |ConnectInfo(from): ConnectInfo<SocketAddr>| async move { from.to_string() };
        let app = Router::new().route("/", get(from));
        app.into_make_service_with_connect_info::<SocketAddr>()
    };
    let hooked = Server::run(|listener, linger| async move {
        axum::serve(linger.listener(listener), app()).await.unwrap();
    });
    let joined = Server::run(|listener, linger| async move {
        tower_bodyguard::axum::serve(listener, app())
            .with_linger(&linger)
            .await
            .unwrap();
    });
    for server in [hooked, joined] {
        let mut socket = connect(server.addr);
        socket
            .write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            .unwrap();
        let said = read_response(&mut socket).unwrap().body;
        assert_eq!(said, socket.local_addr().unwrap().to_string());
    }
}

fn web_socket() -> Router {
    async fn echo(mut socket: WebSocket) {
        while let Some(Ok(message)) = socket.recv().await {
            match message {
                Message::Text(text) if text == "leave" => {
                    let close = CloseFrame {
                        code: 4000,
                        reason: "as you say".into(),
                    };
                    socket.send(Message::Close(Some(close))).await.unwrap();
                }
                Message::Binary(_) => socket.send(message).await.unwrap(),
                _ => {}
            }
        }
    }
    let upgrade = |upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(echo) };
    Router::new().route("/", get(upgrade))
}

/// Both directions work, and either side can close with a reason.
#[tokio::test]
async fn a_web_socket_is_untouched() {
    use tokio_tungstenite::tungstenite::{self, protocol::frame::coding::CloseCode};

    for serve in [Server::wrapped, Server::combined] {
        let start = move || serve(web_socket());
        let server = tokio::task::spawn_blocking(start).await.unwrap();
        for server_leaves in [true, false] {
            let socket = TcpStream::connect(server.addr).await.unwrap();
            let uri = format!("ws://{}/", server.addr);
            let (mut socket, _) = tokio_tungstenite::client_async(uri, socket).await.unwrap();
            let message = vec![7; 1 << 20];
            for _ in 0..8 {
                let message = tungstenite::Message::binary(message.clone());
                socket.send(message).await.unwrap();
            }
            for _ in 0..8 {
                let echo = socket.next().await.unwrap().unwrap();
                assert_eq!(echo.into_data(), message);
            }
            let expected = if server_leaves {
                socket.send("leave".into()).await.unwrap();
                CloseCode::from(4000)
            } else {
                let close = tungstenite::protocol::CloseFrame {
                    code: CloseCode::Normal,
                    reason: "enough".into(),
                };
                socket.close(Some(close)).await.unwrap();
                CloseCode::Normal
            };
            let end = timeout(PATIENCE, socket.next()).await.unwrap().unwrap();
            let tungstenite::Message::Close(Some(close)) = end.unwrap() else {
                panic!("no close with a reason");
            };
            assert_eq!(close.code, expected);
            // The connection closes only after that, and with a FIN.
            let end = timeout(PATIENCE, socket.next()).await.unwrap();
            assert!(end.is_none(), "{end:?}");
        }
    }
}

/// Identifies a Unix socket's client.
#[cfg(unix)]
#[derive(Clone)]
struct Peer(u32);

#[cfg(unix)]
impl Connected<IncomingStream<'_, LingerListener<UnixListener>>> for Peer {
    fn connect_info(stream: IncomingStream<'_, LingerListener<UnixListener>>) -> Self {
        let socket = stream.io().get_ref();
        Self(socket.peer_cred().unwrap().uid())
    }
}

#[cfg(unix)]
impl Connected<tower_bodyguard::axum::IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: tower_bodyguard::axum::IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().unwrap().uid())
    }
}

#[cfg(unix)]
#[test]
fn a_connected_of_ones_own_goes_on_working() {
    use std::os::unix::fs::MetadataExt;

    let whoami = |ConnectInfo(peer): ConnectInfo<Peer>| async move { peer.0.to_string() };
    let app = Router::new().route("/", get(whoami));
    for joined in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let app = app.clone().into_make_service_with_connect_info::<Peer>();
        let _server = Server::run(|_, linger| {
            let listener = UnixListener::bind(&path).unwrap();
            async move {
                match joined {
                    true => tower_bodyguard::axum::serve(listener, app)
                        .with_linger(&linger)
                        .await
                        .unwrap(),
                    false => axum::serve(LingerListener::new(listener, &linger), app)
                        .await
                        .unwrap(),
                }
            }
        });
        let mut socket = connect_unix(&path);
        let ask = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
        socket.write_all(ask).unwrap();
        let own = folder.path().metadata().unwrap().uid();
        assert_eq!(read_response(&mut socket).unwrap().body, own.to_string());
    }
}
