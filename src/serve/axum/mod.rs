//! Support for axum: [`serve`], which replaces `axum::serve`, the socket wrapper for axum's
//! listeners, and the limit layer with axum's own bodies.

mod accept;
mod bodies;
mod connection;
mod default_limit;
mod guard;
mod head_timeout;
mod incoming;
mod listener;
mod refusal_response;
mod route_limit;
mod router;
mod serve;

pub use self::{
    guard::{AxumGuard, AxumGuardFuture, AxumService, MakeAxumGuard},
    incoming::IncomingStream,
    listener::{LingerListener, TappedListener},
    refusal_response::{AnyRefusalResponse, AxumResponse, RefusalIntoResponse},
    route_limit::{RouteLimit, RouteLimited},
    router::ConnectionRouter,
    serve::{Serve, ServeFuture, serve},
};
