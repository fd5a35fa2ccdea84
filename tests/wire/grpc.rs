//! gRPC: a refused call ends in `RESOURCE_EXHAUSTED`, and other calls on the connection are
//! unaffected. The tests use tonic's own client and raw frames.
#![cfg(feature = "tonic")]

mod calls;
mod frames;
mod peer;
mod stage;
mod streams;
mod web;
