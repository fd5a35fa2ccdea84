//! Serves the requests of one connection.

use std::{
    future::{Future, pending, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, extract::ConnectInfo};
use bytes::Bytes;
use h3::{
    error::{Code, StreamError},
    server::{Connection, RequestResolver},
};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use quinn::VarInt;
use tokio::{select, sync::watch, task::JoinSet, time::sleep};
use tower_bodyguard::{Delivery, delivery::TrackedBody};
use tower_service::Service;

use crate::{RequestBody, RequestBodyError, quic, response};

/// How many streams of a connection may end before their heads, or have them too late. h3 0.0.8
/// keeps the number of each until the connection ends, which takes about 32 bytes.
const MAX_FAILED_HEADS: usize = 10_000;

/// The longest wait for requests that cross a `GOAWAY`.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(1);

/// `H3_EXCESSIVE_LOAD` (RFC 9114 §8.1).
const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x0107);

/// The parts of a connection that its requests need.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) connection: quinn::Connection,
    pub(crate) header_timeout: Option<Duration>,
}

impl Client {
    /// Returns the address of the client, which may change.
    fn addr(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Waits until a `GOAWAY` has arrived, and what the client has sent before that. A client can
    /// make its round trips look longer than they are.
    async fn round_trip(&self) {
        sleep(self.connection.rtt().min(MAX_ROUND_TRIP)).await;
    }
}

/// How a request ended, as far as h3 is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// h3 has it, even if it is malformed.
    Read,
    /// It did not arrive, or not in time.
    Missing,
}

/// Serves a connection until the client closes it, or until `stop` completes and its requests are
/// over. A request is over when its client has the response, and its body is read or dropped.
pub(crate) async fn serve<S, B>(
    mut connection: Connection<quic::Connection, Bytes>,
    service: Delivery<App<S>>,
    client: Client,
    stop: impl Future<Output = ()>,
) where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    // Dropped with the connection. So handlers end when the client leaves, as those of hyper do.
    let mut requests = JoinSet::new();
    // Each request and each body has a receiver.
    let (open, _) = watch::channel(());
    let mut stop = pin!(stop);
    let mut stopping = false;
    let mut failed_heads = 0;
    loop {
        select! {
            // Requests that have arrived before the shutdown get their responses.
            biased;
            Some(ended) = requests.join_next() => {
                failed_heads += usize::from(matches!(ended, Ok(Head::Missing)));
                if failed_heads > MAX_FAILED_HEADS {
                    let reason = b"too many requests without a head";
                    return client.connection.close(EXCESSIVE_LOAD, reason);
                }
            }
            accepted = connection.accept() => {
                let Ok(Some(resolver)) = accepted else { return };
                requests.spawn(respond(resolver, service.clone(), client.clone(), open.subscribe()));
            }
            () = &mut stop, if !stopping => {
                stopping = true;
                select! {
                    // Idle clients get it, too.
                    biased;
                    // Names the request after the last one that was accepted. Waits while the
                    // client gives the control stream no room.
                    _ = connection.shutdown(1) => {}
                    () = open.closed() => return,
                }
            }
            () = over(&open, &client), if stopping => return,
        }
    }
}

/// Waits until no request is left, and for those on the way, which are rejected.
async fn over(open: &watch::Sender<()>, client: &Client) {
    open.closed().await;
    client.round_trip().await;
}

/// Responds to one request.
async fn respond<S, B>(
    resolver: RequestResolver<quic::Connection, Bytes>,
    mut service: Delivery<App<S>>,
    client: Client,
    open: watch::Receiver<()>,
) -> Head
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody<Data = Bytes>,
{
    let resolved = select! {
        resolved = resolver.resolve_request() => resolved,
        () = after(client.header_timeout) => return Head::Missing,
    };
    let (head, stream) = match resolved {
        Ok(request) => request,
        // h3 has responded to a malformed head.
        Err(error) => return head_of(&error),
    };
    let (mut send, recv) = stream.split();
    let (body, guard) = RequestBody::with_response(recv, head.headers());
    let method = head.method().clone();
    let mut request = head.map(|()| OpenBody {
        body,
        _open: open.clone(),
    });
    request.extensions_mut().insert(ConnectInfo(client.addr()));
    if poll_fn(|cx| service.poll_ready(cx)).await.is_ok() {
        if let Ok(response) = service.call(request).await {
            // The client has the response now, or never will.
            let _ = response::send(&mut send, &method, response).await;
        }
    }
    // A response without its end is reset.
    drop(send);
    drop(guard);
    drop(open);
    Head::Read
}

fn head_of(error: &StreamError) -> Head {
    match error {
        StreamError::HeaderTooBig { .. } => Head::Read,
        StreamError::StreamError { code, .. } if *code == Code::H3_MESSAGE_ERROR => Head::Read,
        _ => Head::Missing,
    }
}

/// Completes after the timeout, if there is one.
pub(crate) async fn after(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => sleep(timeout).await,
        None => pending().await,
    }
}

/// A request body, for which the connection stays open.
pub(crate) struct OpenBody {
    body: RequestBody<quic::RecvStream>,
    // Dropped after the body.
    _open: watch::Receiver<()>,
}

impl HttpBody for OpenBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A service that passes an app axum's own body type.
#[derive(Clone, Debug)]
pub(crate) struct App<S>(pub(crate) S);

impl<S: Service<Request<Body>>> Service<Request<TrackedBody<OpenBody>>> for App<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<TrackedBody<OpenBody>>) -> S::Future {
        // An empty body needs no box.
        let own = |body: TrackedBody<OpenBody>| match body.is_end_stream() {
            true => Body::empty(),
            false => Body::new(body),
        };
        self.0.call(request.map(own))
    }
}
