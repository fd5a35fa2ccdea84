//! Tests that connect clients to servers over real sockets.

#[cfg(feature = "axum")]
#[path = "../support/server.rs"]
mod server;

mod as_stock;
mod axum_serve;
mod blocking_client;
mod body_budget;
mod by_hand;
mod differential_stock;
mod drops;
mod events;
mod examples;
mod g1_response_arrives;
mod g2_at_once;
mod g3_exact_limit;
mod g4_status;
mod g5_honest_framing;
mod g6_expect_continue;
mod g7_bounded;
mod grpc;
mod half_close;
mod http2;
mod http2_clients;
mod http2_connection;
mod loses_unread;
mod misuse;
mod pressure;
mod rfc;
mod runtimes;
mod servers;
mod shutdown;
mod stock;
mod upgrades;
mod wrapper_alone;
