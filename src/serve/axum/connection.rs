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
use tower_service::Service;

use super::bodies::own;
use crate::{
    delivery::{DeliveredBody, Delivery, ResponseFuture},
    linger::{Linger, LingerIo},
};

/// A service that serves an app on one connection.
#[derive(Clone, Debug)]
pub(super) struct ConnectionService<S>(Delivery<S>);

impl<S> ConnectionService<S> {
    /// Combines an app with the socket of its connection.
    pub(super) fn new<T>(app: S, linger: &Linger, io: &LingerIo<T>) -> Self {
        let connection = io.connection().cloned();
        Self(linger.delivery_layer().with_connection(app, connection))
    }
}

impl<S> hyper::service::Service<Request<Incoming>> for ConnectionService<S>
where
    S: Service<Request, Response = Response> + Clone,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ConnectionFuture<S>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let Self(delivery) = self;
        if !request.body().is_end_stream() {
            let oneshot = Oneshot::new(Tracked(Some(delivery.clone())), request);
            return ConnectionFuture::Delivered { oneshot };
        }
        // An empty body needs no delivery and no box.
        delivery.note_bodiless(&request);
        let app = delivery.get_ref().clone();
        let oneshot = Oneshot::new(app, request.map(|_| Body::empty()));
        ConnectionFuture::Bodiless { oneshot }
    }
}

pin_project! {
    /// The future of [`ConnectionService`]'s responses.
    #[project = ConnectionProj]
    pub(super) enum ConnectionFuture<S>
    where
        S: Service<Request, Response = Response>,
    {
        Bodiless {
            #[pin]
            oneshot: Oneshot<S, Request>,
        },
        Delivered {
            #[pin]
            oneshot: Oneshot<Tracked<S>, Request<Incoming>>,
        },
    }
}

impl<S> Future for ConnectionFuture<S>
where
    S: Service<Request, Response = Response>,
{
    type Output = Result<Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let oneshot = match self.project() {
            ConnectionProj::Bodiless { oneshot } => return oneshot.poll(cx),
            ConnectionProj::Delivered { oneshot } => oneshot,
        };
        let response = ready!(oneshot.poll(cx))?;
        Poll::Ready(Ok(response.map(|body| own(body, DeliveredBody::into_plain))))
    }
}

pin_project! {
    /// A future that calls a service when the service is ready.
    #[project = OneshotProj]
    pub(super) enum Oneshot<S, R>
    where
        S: Service<R>,
    {
        Waiting {
            service: S,
            request: Option<R>,
        },
        Called {
            #[pin]
            future: S::Future,
        },
    }
}

impl<S: Service<R>, R> Oneshot<S, R> {
    fn new(service: S, request: R) -> Self {
        let request = Some(request);
        Self::Waiting { service, request }
    }
}

impl<S: Service<R>, R> Future for Oneshot<S, R> {
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let OneshotProj::Waiting { service, request } = self.as_mut().project() {
            ready!(service.poll_ready(cx))?;
            let request = request.take().expect("it is taken once");
            let future = service.call(request);
            self.set(Self::Called { future });
        }
        match self.project() {
            OneshotProj::Called { future } => future.poll(cx),
            OneshotProj::Waiting { .. } => unreachable!("it has been called by now"),
        }
    }
}

/// A service for one request that tracks the body, and passes it to an app as axum's own body type.
#[derive(Debug)]
pub(super) struct Tracked<S>(Option<Delivery<S>>);

impl<S> Tracked<S> {
    const ONCE: &str = "it serves one request";
}

impl<S> Service<Request<Incoming>> for Tracked<S>
where
    S: Service<Request, Response = Response>,
{
    type Response = Response<DeliveredBody<Body>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, Incoming, Body>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let delivery = self.0.as_mut().expect(Self::ONCE);
        delivery.get_mut().poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let delivery = self.0.take().expect(Self::ONCE);
        delivery.follow(request, Body::new)
    }
}
