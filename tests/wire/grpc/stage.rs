//! A tonic server with the limit layer, and calls to it.

use std::{
    convert::Infallible,
    env,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use http::uri::PathAndQuery;
use prost::Message;
use testkit::client::PATIENCE;
use tokio::{net::TcpListener, time::timeout};
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    metadata::{BinaryMetadataValue, MetadataValue},
    server::NamedService,
    service::Routes,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tonic_web::GrpcWebLayer;
use tower::{Service, service_fn};
use tower_bodyguard::{BodyGuardLayer, Limit, Linger};

pub(crate) const LIMIT: u64 = 4 << 20;

/// The words in which clients read the limit.
pub(crate) const LIMIT_IN_WORDS: &str = "limit is 4 MiB";

/// Returns the number of bytes received, and in the metadata the client's address.
pub(crate) const PUT: &str = "/test.Calls/Put";
/// Does the same, with a handler that replaces the error by its own status.
pub(crate) const CARELESS_PUT: &str = "/test.Calls/CarelessPut";
/// Returns the length of each message, one by one.
pub(crate) const COUNT: &str = "/test.Calls/Count";
/// Does the same, with a handler that takes an error for the end.
pub(crate) const CARELESS_COUNT: &str = "/test.Calls/CarelessCount";
/// Returns a zero and then never anything else. The request is read in another task.
pub(crate) const SILENT: &str = "/test.Calls/Silent";

#[derive(Clone, Copy, Debug)]
struct Calls;

impl NamedService for Calls {
    const NAME: &'static str = "test.Calls";
}

impl Service<http::Request<Body>> for Calls {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async { Ok(respond(request).await) })
    }
}

async fn respond(request: http::Request<Body>) -> http::Response<Body> {
    let mut grpc = tonic::server::Grpc::new(ProstCodec::<u64, Bytes>::default());
    match request.uri().path() {
        PUT => grpc.client_streaming(service_fn(put), request).await,
        CARELESS_PUT => {
            grpc.client_streaming(service_fn(careless_put), request)
                .await
        }
        COUNT => grpc.streaming(service_fn(count), request).await,
        CARELESS_COUNT => grpc.streaming(service_fn(careless_count), request).await,
        SILENT => grpc.streaming(service_fn(silent), request).await,
        other => panic!("no such method: {other}"),
    }
}

async fn put(request: Request<Streaming<Bytes>>) -> Result<Response<u64>, Status> {
    let remote = request.remote_addr();
    let certs = request.peer_certs();
    let mut messages = request.into_inner();
    let mut total = 0;
    while let Some(message) = messages.message().await? {
        total += message.len() as u64;
    }
    let mut response = Response::new(total);
    let metadata = response.metadata_mut();
    if let Some(remote) = remote {
        metadata.insert("remote-addr", remote.to_string().parse().unwrap());
    }
    for cert in certs.iter().flat_map(|certs| certs.iter()) {
        let cert: BinaryMetadataValue = MetadataValue::from_bytes(cert);
        metadata.append_bin("peer-cert-bin", cert);
    }
    Ok(response)
}

async fn careless_put(request: Request<Streaming<Bytes>>) -> Result<Response<u64>, Status> {
    let result = put(request).await;
    result.map_err(|_| Status::data_loss("something went wrong"))
}

async fn count(
    request: Request<Streaming<Bytes>>,
) -> Result<Response<impl Stream<Item = Result<u64, Status>>>, Status> {
    let lengths = request.into_inner().map_ok(|message| message.len() as u64);
    Ok(Response::new(lengths))
}

async fn careless_count(
    request: Request<Streaming<Bytes>>,
) -> Result<Response<impl Stream<Item = Result<u64, Status>>>, Status> {
    let lengths = count(request).await?.into_inner();
    Ok(Response::new(
        lengths.take_while(|length| std::future::ready(length.is_ok())),
    ))
}

async fn silent(
    request: Request<Streaming<Bytes>>,
) -> Result<Response<impl Stream<Item = Result<u64, Status>>>, Status> {
    tokio::spawn(put(request));
    let zero = stream::once(async { Ok(0) });
    Ok(Response::new(zero.chain(stream::pending())))
}

/// How the limit layer is installed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// With delivery and the socket wrapper.
    Layered,
    /// With the socket wrapper alone.
    Hooked,
}

pub(crate) const FORMS: [Form; 2] = [Form::Layered, Form::Hooked];

pub(crate) async fn serve(form: Form, limit: impl Into<Limit>) -> SocketAddr {
    let guard = BodyGuardLayer::new(limit);
    serve_by(Server::builder(), &Linger::default(), form, guard).await
}

/// Runs the server on the runtime of the test.
pub(crate) async fn serve_by(
    server: Server,
    linger: &Linger,
    form: Form,
    guard: BodyGuardLayer,
) -> SocketAddr {
    let (tcp, addr) = listen().await;
    let incoming = linger.incoming(tcp);
    let calls = Routes::new(Calls);
    match form {
        Form::Layered => tokio::spawn(
            server
                .layer(linger.delivery_layer())
                .layer(guard)
                .add_routes(calls)
                .serve_with_incoming(incoming),
        ),
        Form::Hooked => tokio::spawn(
            server
                .layer(guard)
                .add_routes(calls)
                .serve_with_incoming(incoming),
        ),
    };
    addr
}

/// Serves with the gRPC-Web translation inside the limit layer.
pub(crate) async fn serve_web() -> SocketAddr {
    let (tcp, addr) = listen().await;
    let linger = Linger::default();
    tokio::spawn(
        Server::builder()
            .accept_http1(true)
            .layer(linger.delivery_layer())
            .layer(BodyGuardLayer::new(LIMIT))
            .layer(GrpcWebLayer::new())
            .add_service(Calls)
            .serve_with_incoming(linger.incoming(tcp)),
    );
    addr
}

async fn listen() -> (TcpIncoming, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener.into(), addr)
}

/// tonic's client, over one connection.
#[derive(Clone, Debug)]
pub(crate) struct Client(Channel);

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let url = format!("http://{addr}");
        Self::connect_by(Endpoint::from_shared(url).unwrap()).await
    }

    pub(crate) async fn connect_by(endpoint: Endpoint) -> Self {
        Self(endpoint.connect().await.expect("the server listens"))
    }

    /// Makes one call with this many bytes.
    pub(crate) async fn send(
        &self,
        method: &'static str,
        length: u64,
    ) -> Result<Response<u64>, Status> {
        self.stream(method, stream::iter(messages(length))).await
    }

    pub(crate) async fn stream(
        &self,
        method: &'static str,
        messages: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Response<u64>, Status> {
        let call = async {
            let mut grpc = self.ready().await;
            let request = Request::new(messages);
            let path = PathAndQuery::from_static(method);
            grpc.client_streaming(request, path, ProstCodec::default())
                .await
        };
        timeout(PATIENCE, call).await.expect("it comes to an end")
    }

    /// Makes one call that gets responses while it sends.
    pub(crate) async fn converse(
        &self,
        method: &'static str,
        messages: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Streaming<u64>, Status> {
        let call = async {
            let mut grpc = self.ready().await;
            let request = Request::new(messages);
            let path = PathAndQuery::from_static(method);
            grpc.streaming(request, path, ProstCodec::default()).await
        };
        let response = timeout(PATIENCE, call).await.expect("the response arrives");
        response.map(Response::into_inner)
    }

    async fn ready(&self) -> tonic::client::Grpc<Channel> {
        let mut grpc = tonic::client::Grpc::new(self.0.clone());
        grpc.ready().await.expect("the connection is open");
        grpc
    }
}

const MESSAGE: u64 = 64 * 1024;

/// Returns this many bytes in messages of 64 KiB.
pub(crate) fn messages(length: u64) -> impl Iterator<Item = Bytes> {
    let zeros = Bytes::from(vec![0; MESSAGE as usize]);
    (0..length)
        .step_by(MESSAGE as usize)
        .map(move |sent| zeros.slice(..MESSAGE.min(length - sent) as usize))
}

/// Returns their length on the wire. Each message has a prefix of five bytes and is a field of a
/// protobuf message.
pub(crate) fn on_the_wire(messages: impl Iterator<Item = Bytes>) -> u64 {
    messages
        .map(|message| 5 + message.encoded_len() as u64)
        .sum()
}

#[track_caller]
pub(crate) fn assert_refused<T>(result: Result<T, Status>) {
    let status = result.err().expect("it is refused");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains(LIMIT_IN_WORDS), "{status:?}");
}

#[track_caller]
pub(crate) fn assert_total(result: Result<Response<u64>, Status>, total: u64) {
    assert_eq!(result.expect("it is within the limit").into_inner(), total);
}

/// Returns how often to try something that must never fail. `TRIES` raises the number.
pub(crate) fn tries() -> u32 {
    env::var("TRIES").map_or(5, |tries| tries.parse().expect("a number"))
}
