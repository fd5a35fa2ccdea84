//! gRPC: a refused call ends in `RESOURCE_EXHAUSTED`, and no call beside it is hurt. By
//! tonic's own client, and by frames.
#![cfg(feature = "tonic")]

/// Alone, since the rest of `support` is for servers of axum's.
#[path = "support/client.rs"]
#[allow(dead_code, unreachable_pub)]
mod client;

/// The tests, by what they are about.
mod grpc {
    mod calls;
    mod frames;
    mod peer;
    mod stage;
    mod streams;
    mod web;
}
