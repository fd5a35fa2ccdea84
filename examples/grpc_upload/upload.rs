//! The service, as a code generator would write it from this file:
//!
//! ```proto
//! package upload.v1;
//!
//! service Upload {
//!   rpc Put(stream google.protobuf.BytesValue) returns (google.protobuf.UInt64Value);
//! }
//! ```
//!
//! It is written by hand because prost already has both messages: they are `Bytes` and `u64`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

pub(crate) const PUT: &str = "/upload.v1.Upload/Put";

/// Returns the number of bytes received. Returns an error of the stream as it is: over the limit,
/// the limit layer replaces the response.
async fn put(
    request: Request<Streaming<Bytes>>,
    limit: Option<u64>,
) -> Result<Response<u64>, Status> {
    let mut messages = request.into_inner();
    let mut total = 0;
    while let Some(message) = messages.message().await? {
        total += message.len() as u64;
        if limit.is_some_and(|limit| total > limit) {
            return Err(Status::resource_exhausted("over the handler's limit"));
        }
    }
    Ok(Response::new(total))
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Upload {
    /// A limit that the service checks itself, in bytes.
    pub(crate) limit: Option<u64>,
}

impl NamedService for Upload {
    const NAME: &'static str = "upload.v1.Upload";
}

impl Service<http::Request<Body>> for Upload {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let limit = self.limit;
        Box::pin(async move {
            if request.uri().path() != PUT {
                return Ok(Status::unimplemented("").into_http());
            }
            let mut grpc = Grpc::new(ProstCodec::<u64, Bytes>::default());
            Ok(grpc
                .client_streaming(service_fn(|call| put(call, limit)), request)
                .await)
        })
    }
}
