//! The service of one connection: delivery, with axum's own bodies on both sides.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    response::Response,
};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::bodies::own;
use crate::{
    delivery::{DeliveredBody, Delivery, ResponseFuture, TrackedBody},
    linger::{Linger, LingerIo},
};

/// A service that serves an app on one connection.
#[derive(Clone, Debug)]
pub(super) struct ConnectionService<S>(Delivery<App<S>>);

impl<S> ConnectionService<S> {
    /// Combines an app with the socket of its connection.
    pub(super) fn new<T>(app: S, linger: &Linger, io: &LingerIo<T>) -> Self {
        let delivery = linger.delivery_layer().layer(App(app));
        Self(delivery.joined(io.connection().cloned()))
    }
}

impl<S> Service<Request<Incoming>> for ConnectionService<S>
where
    S: Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ConnectionFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let delivery = match request.body().is_end_stream() {
            // An empty body needs no wrapper.
            true => {
                self.0.note_bodiless(&request);
                self.0
                    .pass(|App(app)| app.call(request.map(|_| Body::empty())))
            }
            false => self.0.call(request),
        };
        ConnectionFuture { delivery }
    }
}

pin_project! {
    /// The future of [`ConnectionService`]'s responses.
    pub(super) struct ConnectionFuture<F> {
        #[pin]
        delivery: ResponseFuture<F, Incoming, Body>,
    }
}

impl<F, E> Future for ConnectionFuture<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().delivery.poll(cx))?;
        Poll::Ready(Ok(response.map(|body| own(body, DeliveredBody::into_plain))))
    }
}

/// A service that passes an app axum's own body type.
#[derive(Clone, Debug)]
struct App<S>(S);

impl<S> Service<Request<TrackedBody<Incoming>>> for App<S>
where
    S: Service<Request>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<TrackedBody<Incoming>>) -> Self::Future {
        self.0
            .call(request.map(|body| own(body, TrackedBody::into_untracked)))
    }
}
