//! warp, poem and salvo, which use hyper. Without the socket wrapper, a client that writes 64 MiB
//! before it reads loses their early responses. With it, they arrive.

#[path = "../../tests/support/server.rs"]
mod server;

use std::io;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use poem::{
    IntoResponse as _,
    listener::Acceptor as PoemsAcceptor,
    web::{LocalAddr, RemoteAddr},
};
use salvo::{
    conn::{Accepted, Acceptor as SalvosAcceptor, Holding, StraightStream, tcp::TcpCoupler},
    fuse::ArcFusePolicy,
};
use testkit::{LARGE, MIB, SendFirst, client::FRAMINGS};
use tokio::net::{TcpListener, TcpStream};
use tower::Layer as _;
use tower_bodyguard::{BodyGuardLayer, Linger, LingerIo};
use warp::Filter as _;

use crate::server::Server;

#[track_caller]
fn assert_lost(server: &Server) {
    for framing in FRAMINGS {
        let outcome = SendFirst::post("/", framing, LARGE).to(server.addr);
        assert!(outcome.was_reset(), "{outcome:?}");
    }
}

#[track_caller]
fn assert_arrives(server: &Server) {
    for framing in FRAMINGS {
        let upload = SendFirst::post("/", framing, LARGE);
        upload.to(server.addr).assert_delivered(401);
    }
}

fn warp_app() -> warp::filters::BoxedFilter<(warp::http::StatusCode,)> {
    warp::any()
        .map(|| warp::http::StatusCode::UNAUTHORIZED)
        .boxed()
}

#[test]
fn warp_alone_loses_an_early_response() {
    assert_lost(&Server::run(|listener, _| {
        warp::serve(warp_app()).incoming(listener).run()
    }));
}

#[test]
fn warp_combined_delivers_an_early_response() {
    assert_arrives(&Server::run(|listener, linger| async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (io, service) = linger.wrap(socket, warp::service(warp_app()));
            let service = TowerToHyperService::new(service);
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(io), service));
        }
    }));
}

#[test]
fn warp_behind_the_limit_layer_delivers_a_413() {
    let count = warp::body::bytes().map(|body: Bytes| body.len().to_string());
    let count = count.boxed();
    let server = Server::run(|listener, linger| async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let limited = BodyGuardLayer::new(4 * MIB).layer(warp::service(count.clone()));
            let (io, service) = linger.wrap(socket, limited);
            let service = TowerToHyperService::new(service);
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(io), service));
        }
    });
    for framing in FRAMINGS {
        let upload = |length| SendFirst::post("/", framing, length).header("Connection: close");
        let counted = upload(4 * MIB).to(server.addr).assert_delivered(200).body;
        assert_eq!(counted, (4 * MIB).to_string());
        upload(LARGE).to(server.addr).assert_delivered(413);
    }
}

async fn poem_app(_: poem::Request) -> poem::Result<poem::Response> {
    Ok(poem::http::StatusCode::UNAUTHORIZED.into_response())
}

struct PoemAcceptor {
    tcp: poem::listener::TcpAcceptor,
    linger: Linger,
}

impl PoemsAcceptor for PoemAcceptor {
    type Io = LingerIo<TcpStream>;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.tcp.local_addr()
    }

    async fn accept(
        &mut self,
    ) -> io::Result<(Self::Io, LocalAddr, RemoteAddr, poem::http::uri::Scheme)> {
        let (socket, local, remote, scheme) = self.tcp.accept().await?;
        Ok((LingerIo::new(socket, &self.linger), local, remote, scheme))
    }
}

fn poem_tcp(listener: TcpListener) -> poem::listener::TcpAcceptor {
    poem::listener::TcpAcceptor::from_tokio(listener).unwrap()
}

#[test]
fn poem_alone_loses_an_early_response() {
    assert_lost(&Server::run(|listener, _| async move {
        let server = poem::Server::new_with_acceptor(poem_tcp(listener));
        server.run(poem::endpoint::make(poem_app)).await.unwrap();
    }));
}

#[test]
fn poem_with_the_wrapper_delivers_an_early_response() {
    assert_arrives(&Server::run(|listener, linger| async move {
        let tcp = poem_tcp(listener);
        let server = poem::Server::new_with_acceptor(PoemAcceptor { tcp, linger });
        server.run(poem::endpoint::make(poem_app)).await.unwrap();
    }));
}

#[salvo::handler]
async fn salvo_app(response: &mut salvo::Response) {
    response.status_code(salvo::http::StatusCode::UNAUTHORIZED);
}

struct SalvoAcceptor {
    tcp: salvo::conn::tcp::TcpAcceptor,
    linger: Linger,
}

impl SalvosAcceptor for SalvoAcceptor {
    type Coupler = TcpCoupler<Self::Stream>;
    type Stream = LingerIo<StraightStream<TcpStream>>;

    fn holdings(&self) -> &[Holding] {
        self.tcp.holdings()
    }

    async fn accept(
        &mut self,
        policy: Option<ArcFusePolicy>,
    ) -> io::Result<Accepted<Self::Coupler, Self::Stream>> {
        let accepted = self.tcp.accept(policy).await?;
        Ok(Accepted {
            coupler: TcpCoupler::new(),
            stream: LingerIo::new(accepted.stream, &self.linger),
            fuse_config: accepted.fuse_config,
            conn_ctrl: accepted.conn_ctrl,
            local_addr: accepted.local_addr,
            remote_addr: accepted.remote_addr,
            http_scheme: accepted.http_scheme,
        })
    }
}

fn salvo_tcp(listener: TcpListener) -> salvo::conn::tcp::TcpAcceptor {
    listener.try_into().unwrap()
}

#[test]
fn salvo_alone_loses_an_early_response() {
    assert_lost(&Server::run(|listener, _| async move {
        let server = salvo::Server::new(salvo_tcp(listener));
        server.serve(salvo::Router::new().goal(salvo_app)).await;
    }));
}

#[test]
fn salvo_with_the_wrapper_delivers_an_early_response() {
    assert_arrives(&Server::run(|listener, linger| async move {
        let tcp = salvo_tcp(listener);
        let server = salvo::Server::new(SalvoAcceptor { tcp, linger });
        server.serve(salvo::Router::new().goal(salvo_app)).await;
    }));
}
