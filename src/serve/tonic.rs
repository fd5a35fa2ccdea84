//! tonic: the hook around the connections of its server.

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
    /// The connections of a server of tonic's, each of which lingers when it is
    /// closed. With [`Linger::delivery_layer`] the refused calls linger, too, and no call on the
    /// same connection is hurt.
    ///
    /// `remote_addr()`, and behind tonic's TLS `peer_certs()`, are what they were.
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
    /// What [`Linger::incoming`] makes of a stream of connections.
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

/// That of the socket itself: what asks for it need not know of the hook.
impl<T: Connected> Connected for LingerIo<T> {
    type ConnectInfo = T::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.get_ref().connect_info()
    }
}
