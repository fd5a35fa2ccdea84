//! The service of one connection: delivery, with axum's own bodies on both sides.

use std::{
    convert::Infallible,
    future::Future,
    marker::PhantomData,
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

use super::{ConnectionRouter, bodies::own, guard::ConnectionGuard};
use crate::{
    delivery::{DeliveredBody, Delivery, ResponseFuture, TrackedBody},
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
    S: Service<Request, Response = Response> + Clone + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ConnectionFuture<S>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let Self(delivery) = self;
        let guard = ConnectionGuard::of_app(delivery.get_ref());
        let router = guard.and_then(|guard| guard.admit(&mut request));
        if request.body().is_end_stream() {
            // An empty body needs no delivery and no box.
            delivery.note_bodiless(&request);
            let request = request.map(|_| Body::empty());
            return match router {
                Some(router) => ConnectionFuture::AdmittedBodiless {
                    oneshot: Oneshot::new(router.clone(), request),
                },
                None => ConnectionFuture::Bodiless {
                    oneshot: Oneshot::new(delivery.get_ref().clone(), request),
                },
            };
        }
        match (router, guard) {
            (Some(router), _) => ConnectionFuture::Admitted {
                oneshot: Oneshot::new(Tracked::new(delivery, router.clone()), request),
            },
            (None, Some(guard)) => ConnectionFuture::Guarded {
                oneshot: Oneshot::new(Tracked::new(delivery, guard.clone()), request),
            },
            (None, None) => ConnectionFuture::Delivered {
                oneshot: Oneshot::new(Tracked::new(delivery, delivery.get_ref().clone()), request),
            },
        }
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
            oneshot: Oneshot<Tracked<S, Body>, Request<Incoming>>,
        },
        // The app is a limit layer around a router. If the request passes the limit by its head,
        // the router is called without the layer.
        AdmittedBodiless {
            #[pin]
            oneshot: Oneshot<ConnectionRouter, Request>,
        },
        Admitted {
            #[pin]
            oneshot: Oneshot<Tracked<ConnectionRouter, Body>, Request<Incoming>>,
        },
        // The layer takes any body, so the body is boxed once, when the router gets it.
        Guarded {
            #[pin]
            oneshot: Oneshot<Tracked<ConnectionGuard, TrackedBody<Incoming>>, Request<Incoming>>,
        },
    }
}

impl<S> Future for ConnectionFuture<S>
where
    S: Service<Request, Response = Response>,
{
    type Output = Result<Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match self.project() {
            ConnectionProj::Bodiless { oneshot } => return oneshot.poll(cx),
            ConnectionProj::AdmittedBodiless { oneshot } => {
                return oneshot.poll(cx).map(never_fails);
            }
            ConnectionProj::Delivered { oneshot } => ready!(oneshot.poll(cx))?,
            ConnectionProj::Admitted { oneshot } => never_fails(ready!(oneshot.poll(cx)))?,
            ConnectionProj::Guarded { oneshot } => never_fails(ready!(oneshot.poll(cx)))?,
        };
        Poll::Ready(Ok(response.map(|body| own(body, DeliveredBody::into_plain))))
    }
}

/// Converts the error of a router.
fn never_fails<T, E>(result: Result<T, Infallible>) -> Result<T, E> {
    result.map_err(|never| match never {})
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

/// A service for one request that tracks the body, and passes it to an app as a `B`.
#[derive(Debug)]
pub(super) struct Tracked<S, B> {
    delivery: Option<Delivery<S>>,
    body: PhantomData<fn() -> B>,
}

impl<S, B> Tracked<S, B> {
    const ONCE: &str = "it serves one request";

    fn new<T>(delivery: &Delivery<T>, app: S) -> Self {
        Self {
            delivery: Some(delivery.around(app)),
            body: PhantomData,
        }
    }
}

impl<S, B> Service<Request<Incoming>> for Tracked<S, B>
where
    S: Service<Request<B>, Response = Response>,
    B: FromTracked,
{
    type Response = Response<DeliveredBody<Body>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, Incoming, Body>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let delivery = self.delivery.as_mut().expect(Self::ONCE);
        delivery.get_mut().poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let delivery = self.delivery.take().expect(Self::ONCE);
        delivery.follow(request, B::from_tracked)
    }
}

/// A type of body that an app takes.
pub(super) trait FromTracked {
    fn from_tracked(body: TrackedBody<Incoming>) -> Self;
}

impl FromTracked for Body {
    fn from_tracked(body: TrackedBody<Incoming>) -> Self {
        Self::new(body)
    }
}

impl FromTracked for TrackedBody<Incoming> {
    fn from_tracked(body: Self) -> Self {
        body
    }
}
