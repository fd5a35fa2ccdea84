//! HTTP/3 on the port of HTTPS, with the same certificate.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::HeaderValue;
use axum::http::header::ALT_SVC;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, ServerConfig};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::tls::Tls;

/// Binds the UDP port.
pub(crate) fn endpoint(Tls(tls): &Tls, addr: SocketAddr) -> Result<Endpoint, Box<dyn Error>> {
    let mut tls = (**tls.config()).clone();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let tls = QuicServerConfig::try_from(tls)?;
    let config = ServerConfig::with_crypto(Arc::new(tls));
    let endpoint = Endpoint::server(config, addr);
    Ok(endpoint
        .map_err(|e| format!("cannot listen on {addr} for UDP: {e}; choose another --addr"))?)
}

/// Returns a layer for the responses over TCP. By their header, browsers find HTTP/3, and switch to
/// it by themselves (RFC 7838).
pub(crate) fn advertised(
    addr: SocketAddr,
) -> Result<SetResponseHeaderLayer<HeaderValue>, Box<dyn Error>> {
    let alt_svc = format!("h3=\":{}\"; ma=3600", addr.port());
    let alt_svc = HeaderValue::try_from(alt_svc)?;
    Ok(SetResponseHeaderLayer::overriding(ALT_SVC, alt_svc))
}
