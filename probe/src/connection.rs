//! Connections to the server, with and without TLS.

use std::{io, sync::Arc, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use crate::{
    socket::{Log, Watched},
    target::Target,
    volume::Volume,
};

/// A socket, with or without TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open connection.
pub(crate) struct Connection {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) log: Log,
    /// The protocol that both sides chose in the TLS handshake.
    pub(crate) alpn: Option<Vec<u8>>,
}

/// The properties of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Properties {
    /// Offers HTTP/2 in the TLS handshake, instead of HTTP/1.1.
    pub(crate) http2: bool,
    /// Has a small receive buffer.
    pub(crate) small_buffer: bool,
    /// Resets the connection when it is dropped.
    pub(crate) resets: bool,
    /// Notes when the first byte of the server arrives, if it is not of TLS.
    pub(crate) watches_response: bool,
}

/// Connects to the target.
#[derive(Clone)]
pub(crate) struct Connector {
    target: Target,
    timeout: Duration,
    volume: Arc<Volume>,
    tls: Arc<ClientConfig>,
}

/// The size of a small receive buffer, in bytes. The kernel may round it up.
const SMALL_BUFFER: u32 = 4096;

impl Connector {
    pub(crate) fn new(
        target: &Target,
        timeout: Duration,
        volume: &Arc<Volume>,
        insecure: bool,
    ) -> Self {
        Self {
            target: target.clone(),
            timeout,
            volume: Arc::clone(volume),
            tls: Arc::new(tls_config(insecure)),
        }
    }

    /// Connects. The timeout includes the TLS handshake.
    pub(crate) async fn connect(&self, properties: Properties) -> io::Result<Connection> {
        match timeout(self.timeout, self.connect_at_leisure(properties)).await {
            Ok(connection) => connection,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn connect_at_leisure(&self, properties: Properties) -> io::Result<Connection> {
        let socket = self.open(properties).await?;
        let is_tls = self.target.is_tls();
        let watches_response = properties.watches_response && !is_tls;
        let watched = Watched::new(socket, Arc::clone(&self.volume), watches_response);
        let log = watched.log();
        if !is_tls {
            return Ok(Connection {
                stream: Box::new(watched),
                log,
                alpn: None,
            });
        }
        let tls = self.tls(if properties.http2 { b"h2" } else { b"http/1.1" });
        let name = ServerName::try_from(self.target.host()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::new(tls));
        let stream = connector.connect(name, watched).await?;
        let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        Ok(Connection {
            stream: Box::new(stream),
            log,
            alpn,
        })
    }

    pub(crate) fn volume(&self) -> Arc<Volume> {
        Arc::clone(&self.volume)
    }

    /// Returns the settings of TLS for a protocol.
    pub(crate) fn tls(&self, protocol: &[u8]) -> ClientConfig {
        let mut tls = (*self.tls).clone();
        tls.alpn_protocols = vec![protocol.to_vec()];
        tls
    }

    async fn open(&self, properties: Properties) -> io::Result<TcpStream> {
        let addr = self.target.addr();
        let socket = match addr.is_ipv4() {
            true => TcpSocket::new_v4()?,
            false => TcpSocket::new_v6()?,
        };
        if properties.small_buffer {
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
        }
        let socket = socket.connect(addr).await?;
        socket.set_nodelay(true)?;
        if properties.resets {
            SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        }
        Ok(socket)
    }
}

fn tls_config(insecure: bool) -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for them");
    if insecure {
        let anyone = Arc::new(Anyone(provider));
        let config = config.dangerous().with_custom_certificate_verifier(anyone);
        return config.with_no_client_auth();
    }
    let mut roots = RootCertStore::empty();
    // A machine may have no certificates. Then each handshake fails with an error that says so.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    config.with_root_certificates(roots).with_no_client_auth()
}

/// A verifier that accepts any certificate.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
