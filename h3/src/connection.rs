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
use h3::server::{Connection, RequestResolver};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::{select, sync::watch, task::JoinSet, time::sleep};
use tower_bodyguard::{Delivery, delivery::TrackedBody};
use tower_service::Service;

use crate::{RequestBody, RequestBodyError, quic, response::Sender};

/// The settings for all requests of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The address of the client.
    pub(crate) addr: SocketAddr,
    pub(crate) header_timeout: Option<Duration>,
}

/// Serves a connection until the client closes it, or until `stop` completes and its requests are
/// over. A request is over when its client has the response, and its body is read or dropped.
pub(crate) async fn serve<S, B>(
    mut connection: Connection<quic::Connection, Bytes>,
    service: Delivery<App<S>>,
    settings: Settings,
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
    loop {
        select! {
            // Requests that have arrived before the shutdown get their responses.
            biased;
            Some(_) = requests.join_next() => {}
            accepted = connection.accept() => {
                let Ok(Some(resolver)) = accepted else { return };
                requests.spawn(respond(resolver, service.clone(), settings, open.subscribe()));
            }
            () = &mut stop, if !stopping => {
                stopping = true;
                select! {
                    // Names the request after the last one that was accepted. Waits while the
                    // client gives the control stream no room.
                    _ = connection.shutdown(1) => {}
                    () = open.closed() => return,
                }
            }
            () = open.closed(), if stopping => return,
        }
    }
}

/// Responds to one request.
async fn respond<S, B>(
    resolver: RequestResolver<quic::Connection, Bytes>,
    mut service: Delivery<App<S>>,
    settings: Settings,
    open: watch::Receiver<()>,
) where
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody<Data = Bytes>,
{
    let resolved = select! {
        resolved = resolver.resolve_request() => resolved,
        () = after(settings.header_timeout) => return,
    };
    // h3 has responded to a malformed head.
    let Ok((head, stream)) = resolved else { return };
    let (send, recv) = stream.split();
    let sender = Sender::new(send);
    let (body, guard) = RequestBody::with_response(recv, head.headers());
    let method = head.method().clone();
    let mut request = head.map(|()| OpenBody {
        body,
        _open: open.clone(),
    });
    request.extensions_mut().insert(ConnectInfo(settings.addr));
    if poll_fn(|cx| service.poll_ready(cx)).await.is_err() {
        return;
    }
    if let Ok(response) = service.call(request).await {
        sender.send(&method, response).await;
    }
    // The client has the response now, or never will.
    drop(guard);
    drop(open);
}

async fn after(timeout: Option<Duration>) {
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
