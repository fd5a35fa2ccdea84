//! QUIC connections to the server, within the volume.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context as Task, Poll},
    time::Duration,
};

use h3::error::Code;
use quinn::{
    AsyncUdpSocket, ClientConfig, Connection, EndpointConfig, Runtime as _, TokioRuntime,
    TransportConfig, UdpPoller, VarInt,
    crypto::rustls::QuicClientConfig,
    udp::{RecvMeta, Transmit},
};
use tokio::time::timeout;

use crate::{context::Context, volume::Volume};

/// How long a handshake may take. quinn does not notice a closed port, and repeats its first packet
/// after 1 s.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(3);
/// How long the last packets may take. quinn waits for three probe timeouts.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// A UDP socket for all connections, and the server's address.
pub(crate) struct Endpoint {
    endpoint: quinn::Endpoint,
    addr: SocketAddr,
    host: String,
    patience: Duration,
    volume_is_used_up: Arc<AtomicBool>,
}

impl Endpoint {
    pub(super) fn new(context: &Context, port: u16) -> io::Result<Self> {
        let tls = context.connector.tls(b"h3");
        let tls = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
        let mut transport = TransportConfig::default();
        // `--timeout` ends a silent upload.
        transport.max_idle_timeout(None);
        let mut config = ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::new(transport));
        let mut addr = context.target.addr();
        addr.set_port(port);
        let any: IpAddr = match addr.is_ipv4() {
            true => Ipv4Addr::UNSPECIFIED.into(),
            false => Ipv6Addr::UNSPECIFIED.into(),
        };
        let runtime = Arc::new(TokioRuntime);
        let volume_is_used_up = Arc::default();
        let socket = Metered {
            socket: runtime.wrap_udp_socket(UdpSocket::bind((any, 0))?)?,
            volume: context.connector.volume(),
            is_used_up: Arc::clone(&volume_is_used_up),
        };
        let mut endpoint = quinn::Endpoint::new_with_abstract_socket(
            EndpointConfig::default(),
            None,
            Arc::new(socket),
            runtime,
        )?;
        endpoint.set_default_client_config(config);
        Ok(Self {
            endpoint,
            addr,
            host: context.target.host(),
            patience: HANDSHAKE_PATIENCE.min(context.options.timeout),
            volume_is_used_up,
        })
    }

    /// Connects, or says why not.
    pub(super) async fn connect(&self) -> Result<Connection, String> {
        let connecting = self.endpoint.connect(self.addr, &self.host);
        let connecting = connecting.map_err(|error| error.to_string())?;
        let port = self.addr.port();
        match timeout(self.patience, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(format!("no QUIC handshake on UDP port {port}: {error}")),
            Err(_) => Err(format!("no QUIC on UDP port {port}")),
        }
    }

    /// Waits until the last connections have been closed, or for 1 s.
    pub(crate) async fn finish(&self) {
        let _ = timeout(CLOSE_PATIENCE, self.endpoint.wait_idle()).await;
    }

    /// Returns whether datagrams were lost to `--max-volume`. An upload then proves nothing.
    pub(crate) fn volume_is_used_up(&self) -> bool {
        self.volume_is_used_up.load(Relaxed)
    }
}

/// Closes a connection without an error.
pub(super) fn close(connection: &Connection) {
    let code = VarInt::from_u64(Code::H3_NO_ERROR.value()).expect("it has 9 bits");
    connection.close(code, b"");
}

/// A UDP socket that sends within the volume.
#[derive(Debug)]
struct Metered {
    socket: Arc<dyn AsyncUdpSocket>,
    volume: Arc<Volume>,
    is_used_up: Arc<AtomicBool>,
}

impl AsyncUdpSocket for Metered {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    /// Sends, or drops what would exceed the volume: an error would leave quinn without a driver.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let length = transmit.contents.len() as u64;
        if !self.volume.reserve(length) {
            self.is_used_up.store(true, Relaxed);
            return Ok(());
        }
        let sent = self.socket.try_send(transmit);
        if sent.is_err() {
            self.volume.give_back(length);
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Task<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(cx, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn no_datagram_is_sent_beyond_the_volume() {
        let any = (Ipv4Addr::LOCALHOST, 0);
        let receiver = tokio::net::UdpSocket::bind(any).await.unwrap();
        let sender = UdpSocket::bind(any).unwrap();
        let volume = Arc::new(Volume::new(5));
        let metered = Arc::new(Metered {
            socket: TokioRuntime.wrap_udp_socket(sender).unwrap(),
            volume: Arc::clone(&volume),
            is_used_up: Arc::default(),
        });
        let mut poller = Arc::clone(&metered).create_io_poller();
        poll_fn(|cx| poller.as_mut().poll_writable(cx))
            .await
            .unwrap();
        let send = |contents: &[u8]| {
            let transmit = Transmit {
                destination: receiver.local_addr().unwrap(),
                ecn: None,
                contents,
                segment_size: None,
                src_ip: None,
            };
            metered.try_send(&transmit).unwrap();
        };
        send(b"abc");
        assert!(!metered.is_used_up.load(Relaxed));
        send(b"def");
        assert!(metered.is_used_up.load(Relaxed));
        send(b"gh");
        assert_eq!(volume.left(), 0);
        for expected in [&b"abc"[..], b"gh"] {
            let mut buffer = [0; 9];
            let length = receiver.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], expected);
        }
    }

    /// A socket whose buffer is full.
    #[derive(Debug)]
    struct Full;

    impl UdpPoller for Full {
        fn poll_writable(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncUdpSocket for Full {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            Box::pin(Self)
        }

        fn try_send(&self, _: &Transmit<'_>) -> io::Result<()> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn poll_recv(
            &self,
            _: &mut Task<'_>,
            _: &mut [IoSliceMut<'_>],
            _: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok((Ipv4Addr::LOCALHOST, 0).into())
        }
    }

    #[test]
    fn datagram_that_is_not_sent_costs_no_volume() {
        let metered = Metered {
            socket: Arc::new(Full),
            volume: Arc::new(Volume::new(5)),
            is_used_up: Arc::default(),
        };
        let transmit = Transmit {
            destination: metered.local_addr().unwrap(),
            ecn: None,
            contents: b"abc",
            segment_size: None,
            src_ip: None,
        };
        assert!(metered.try_send(&transmit).is_err());
        assert_eq!(metered.volume.left(), 5);
    }
}
