//! Types that users store, send to other tasks, and print.

use std::fmt::Debug;

use axum::{Router, body::Body};
use tokio::net::TcpStream;
use tower_bodyguard::{
    BodyGuard, BodyGuardLayer, Counters, CountersSnapshot, Delivery, DeliveryConfig, DeliveryLayer,
    Drain, GuardedBody, Limit, Linger, LingerConfig, LingerIo, Observer, Refusal, StreamLinger,
    axum::{AxumGuard, LingerListener, RouteLimit},
    axum_server::LingerAcceptor,
    limit::{BodyLimitStatus, ResponseBody},
    linger::{Shutdown, Stats},
};

fn is_shared<T: Debug + Send + Sync + 'static>() {}
fn is_sent<T: Debug + Send + 'static>() {}

#[test]
fn public_types_are_send_sync_and_debug() {
    is_shared::<BodyGuardLayer>();
    is_shared::<BodyGuard<Router>>();
    is_shared::<AxumGuard<Router>>();
    is_shared::<GuardedBody<()>>();
    is_shared::<ResponseBody<()>>();
    is_shared::<BodyLimitStatus>();
    is_shared::<Limit>();
    is_shared::<RouteLimit>();
    is_shared::<Refusal>();
    is_shared::<Linger>();
    is_shared::<LingerConfig>();
    is_shared::<LingerIo<TcpStream>>();
    is_shared::<LingerListener<tokio::net::TcpListener>>();
    is_shared::<LingerAcceptor>();
    is_shared::<Shutdown>();
    is_shared::<Stats>();
    is_shared::<Delivery<Router>>();
    is_shared::<DeliveryLayer>();
    is_shared::<DeliveryConfig>();
    is_shared::<Drain>();
    is_shared::<StreamLinger>();
    is_shared::<Observer>();
    is_shared::<Counters>();
    is_shared::<CountersSnapshot>();
    // axum's own body is not `Sync`.
    is_sent::<GuardedBody<Body>>();
}
