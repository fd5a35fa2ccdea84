//! Support for tonic: the socket wrapper for the connections of its server.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::server::Connected;

use crate::linger::{Linger, LingerIo};

impl Linger {
    /// Wraps the connections of a tonic server, so that each lingers when it is closed. Add
    /// [`Linger::delivery_layer`], so that the streams of refused gRPC calls linger, too, and other
    /// calls on the connection are not affected. In tonic the first `.layer()` is the outermost, so
    /// add delivery first.
    ///
    /// `remote_addr()`, and behind tonic's TLS `peer_certs()`, work as before.
    ///
    /// ```no_run
    /// use tonic::transport::{Server, server::TcpIncoming};
    /// use tower_bodyguard::{BodyGuardLayer, Linger, MIB};
    ///
    /// # async fn run(routes: tonic::service::Routes) -> Result<(), Box<dyn std::error::Error>> {
    /// let linger = Linger::default();
    /// let tcp = TcpIncoming::bind("0.0.0.0:50051".parse()?)?;
    /// Server::builder()
    ///     .layer(linger.delivery_layer())
    ///     .layer(BodyGuardLayer::new(16 * MIB))
    ///     .add_routes(routes)
    ///     .serve_with_incoming(linger.incoming(tcp))
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn incoming<I>(&self, stream: I) -> LingerIncoming<I> {
        self.used();
        LingerIncoming {
            stream,
            linger: self.clone(),
        }
    }
}

pin_project! {
    /// A stream of connections that linger when they are closed: see [`Linger::incoming`].
    #[derive(Debug)]
    pub struct LingerIncoming<I> {
        #[pin]
        stream: I,
        linger: Linger,
    }
}

impl<I, T, E> Stream for LingerIncoming<I>
where
    I: Stream<Item = Result<T, E>>,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Item = Result<LingerIo<T>, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let next = ready!(this.stream.poll_next(cx));
        let linger = |io| LingerIo::new(io, this.linger);
        Poll::Ready(next.map(|accepted| accepted.map(linger)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.size_hint()
    }
}

/// Returns the socket's own connection info, so that callers need not know of `LingerIo`.
impl<T: Connected> Connected for LingerIo<T> {
    type ConnectInfo = T::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.get_ref().connect_info()
    }
}
