//! TLS with a self-signed certificate, and a blocking client.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
};

use rcgen::{CertifiedKey, KeyPair, PublicKeyData as _, generate_simple_self_signed};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
        SignatureScheme, StreamOwned, SupportedProtocolVersion,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    },
};

use crate::client::connect;

/// A certificate for `localhost`.
pub struct Certificate(CertifiedKey<KeyPair>);

impl Certificate {
    pub fn new() -> Self {
        let names = ["localhost".to_owned()];
        Self(generate_simple_self_signed(names).expect("it is well-formed"))
    }

    pub fn pem(&self) -> (String, String) {
        (self.0.cert.pem(), self.0.signing_key.serialize_pem())
    }

    /// Returns the public key, as `SubjectPublicKeyInfo` in DER.
    pub fn public_key(&self) -> Vec<u8> {
        self.0.signing_key.subject_public_key_info()
    }

    fn der(&self) -> CertificateDer<'static> {
        self.0.cert.der().clone()
    }

    pub fn server(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::Pkcs8(self.0.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("ring has ciphers for them")
            .with_no_client_auth()
            .with_single_cert(vec![self.der()], key)
            .expect("the key is the certificate's");
        Arc::new(config)
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        self.server().into()
    }

    /// Returns a client that speaks only one version of TLS.
    pub fn client(&self, version: &'static SupportedProtocolVersion) -> Connector {
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).expect("it is a certificate");
        let config = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_protocol_versions(&[version])
            .expect("ring has ciphers for it")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Connector(config.into())
    }
}

#[derive(Clone)]
pub struct Connector(Arc<ClientConfig>);

impl Connector {
    /// Returns a connector for a server whose self-signed certificate is not available.
    pub fn trusting_anyone() -> Self {
        Self(trusting_anyone())
    }

    /// Sets the protocol for a server that speaks more than one.
    #[must_use]
    pub fn with_alpn(self, protocol: Option<&[u8]>) -> Self {
        let mut config = (*self.0).clone();
        config.alpn_protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
        Self(config.into())
    }

    /// Returns the settings of the client's TLS.
    pub fn config(&self) -> ClientConfig {
        (*self.0).clone()
    }

    pub fn connect(&self, addr: SocketAddr) -> TlsClient {
        let name = ServerName::try_from("localhost").expect("it is a name");
        let session = ClientConnection::new(Arc::clone(&self.0), name).expect("it is set up");
        TlsClient(StreamOwned::new(session, connect(addr)))
    }

    pub async fn connect_async(&self, addr: SocketAddr) -> TlsStream<tokio::net::TcpStream> {
        let name = ServerName::try_from("localhost").expect("it is a name");
        let socket = tokio::net::TcpStream::connect(addr).await.unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.0));
        connector.connect(name, socket).await.unwrap()
    }
}

/// A TLS client. Its end is clean if both TLS and TCP end cleanly.
pub struct TlsClient(StreamOwned<ClientConnection, TcpStream>);

impl Read for TlsClient {
    /// Reads. rustls reports an end without `close_notify` as an error.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 if !buffer.is_empty() => self.0.sock.read(buffer),
            read => Ok(read),
        }
    }
}

impl Write for TlsClient {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl TlsClient {
    /// Sends `close_notify` and closes the sending side of the connection.
    pub fn half_close(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()?;
        self.0.sock.shutdown(Shutdown::Write)
    }

    pub fn get_ref(&self) -> &TcpStream {
        &self.0.sock
    }
}

pub fn trusting_anyone() -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let anyone = Arc::new(Anyone(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for them")
        .dangerous()
        .with_custom_certificate_verifier(anyone)
        .with_no_client_auth();
    Arc::new(config)
}

/// A verifier that accepts any certificate, because this one is self-signed.
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
        verify_tls12_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
