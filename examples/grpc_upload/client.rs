//! The client, as a code generator would write it, and the messages that it sends.

use bytes::Bytes;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::Endpoint;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::upload::PUT;

const MESSAGE: u64 = 64 * 1024;

/// Sends `size` bytes in one call. Returns how many the server has counted.
pub(crate) async fn put(url: String, size: u64) -> Result<u64, Status> {
    let unavailable = |error| Status::from_error(Box::new(error));
    let endpoint = Endpoint::from_shared(url).map_err(unavailable)?;
    let channel = endpoint.connect().await.map_err(unavailable)?;
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(unavailable)?;

    let request = Request::new(tokio_stream::iter(messages(size)));
    let path = PathAndQuery::from_static(PUT);
    let codec = ProstCodec::<Bytes, u64>::default();
    let response = client.client_streaming(request, path, codec).await?;
    Ok(response.into_inner())
}

fn messages(size: u64) -> impl Iterator<Item = Bytes> {
    let zeros = Bytes::from(vec![0; MESSAGE as usize]);
    (0..size).step_by(MESSAGE as usize).map(move |sent| {
        let length = MESSAGE.min(size - sent);
        zeros.slice(..length as usize)
    })
}
