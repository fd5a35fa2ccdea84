//! gRPC: a refused call ends in `RESOURCE_EXHAUSTED`, and no call beside it is hurt. By
//! tonic's own client, and by frames.
#![cfg(feature = "tonic")]

mod calls;
mod frames;
mod peer;
mod stage;
mod streams;
mod web;
