//! The HTTP/3 clients: one stream on one connection. They differ in what `STOP_SENDING` does to them.

mod alt_svc;
mod endpoint;
mod frames;
mod quic;
mod upload;

use crate::context::Context;

pub(crate) use self::{
    endpoint::Endpoint,
    upload::{Http3, run},
};

/// Returns an endpoint for the server's UDP port, or the reason why HTTP/3 cannot be probed.
pub(crate) async fn offer(context: &Context) -> Result<Endpoint, String> {
    if !context.target.is_tls() {
        return Err("HTTP/3 needs https://".to_owned());
    }
    let port = match alt_svc::port(context).await {
        Ok(port) => port,
        Err(_) if context.options.http3_without_alt_svc => context.target.addr().port(),
        Err(why) => return Err(format!("{why}; --only tries it nevertheless")),
    };
    let endpoint = Endpoint::new(context, port).map_err(|error| error.to_string())?;
    let connection = endpoint.connect().await?;
    endpoint::close(&connection);
    Ok(endpoint)
}
