//! Clients of the refusing servers.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, LazyLock},
};

use tokio_rustls::rustls::{
    self, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// An upload without end, which every server here refuses.
const UPLOAD: &[u8] =
    b"POST /upload HTTP/1.1\r\nhost: cost\r\ncontent-length: 1099511627776\r\n\r\n";
const KEPT: &[u8] = b"POST /read HTTP/1.1\r\nhost: cost\r\ncontent-length: 0\r\n\r\n";

/// A connection of a client.
pub(crate) enum Line {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Line {
    pub(crate) fn connect(addr: SocketAddr, tls: bool) -> Self {
        let socket = TcpStream::connect(addr).expect("the server listens");
        socket.set_nodelay(true).expect("an option");
        if !tls {
            return Self::Tcp(socket);
        }
        let name = ServerName::try_from("cost").expect("a name");
        let connection =
            ClientConnection::new(Arc::clone(&TRUSTING), name).expect("settings that fit");
        Self::Tls(Box::new(StreamOwned::new(connection, socket)))
    }

    /// Sends an upload that will be refused.
    pub(crate) fn ask(&mut self) {
        self.write_all(UPLOAD).expect("the server reads");
    }

    /// Sends a request after which the server keeps the connection.
    pub(crate) fn ask_and_stay(&mut self) {
        self.write_all(KEPT).expect("the server reads");
    }

    /// Reads one response and returns its status.
    pub(crate) fn answer(&mut self) -> u16 {
        let mut response = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            let read = self.read(&mut buffer).expect("a response");
            assert!(read > 0, "a response before the end");
            response.extend_from_slice(&buffer[..read]);
            if let Some(status) = whole(&response) {
                return status;
            }
        }
    }

    /// Sends an upload and reads the refusal.
    pub(crate) fn refused(mut self) -> Self {
        self.ask();
        assert_eq!(self.answer(), 413);
        // All servers then end TLS. If that stayed unread, closing this side would reset.
        if matches!(self, Self::Tls(_)) {
            let end = self.read(&mut [0]);
            assert_eq!(end.expect("an end in good order"), 0);
        }
        self
    }

    /// Drops the TLS state, which a client that sends nothing more does not need.
    pub(crate) fn into_socket(self) -> TcpStream {
        match self {
            Self::Tcp(socket) => socket,
            Self::Tls(stream) => stream.sock,
        }
    }
}

/// Returns the status once the response is whole.
fn whole(response: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(response).to_ascii_lowercase();
    let (head, content) = text.split_once("\r\n\r\n")?;
    let length = head.split_once("content-length:").map(|(_, rest)| rest);
    let length = length.and_then(|rest| rest.lines().next()?.trim().parse().ok());
    let status = head.split(' ').nth(1)?.parse().ok()?;
    (content.len() >= length.unwrap_or(0)).then_some(status)
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Line {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(content),
            Self::Tls(stream) => stream.write(content),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// How many clients of a crowd send concurrently.
pub(crate) const AT_ONCE: usize = 32;

/// Returns this many clients that have their response and send nothing more.
pub(crate) fn crowd(
    count: usize,
    connect: impl Fn() -> Line,
    ask: fn(&mut Line),
) -> Vec<TcpStream> {
    let mut crowd = Vec::with_capacity(count);
    while crowd.len() < count {
        let now = AT_ONCE.min(count - crowd.len());
        let mut lines: Vec<_> = (0..now).map(|_| connect()).collect();
        lines.iter_mut().for_each(ask);
        for mut line in lines {
            line.answer();
            crowd.push(line.into_socket());
        }
    }
    crowd
}

static TRUSTING: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    // Session resumption would shorten the handshakes.
    config.resumption = Resumption::disabled();
    Arc::new(config)
});

/// A verifier that trusts any server, because this program started it.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
