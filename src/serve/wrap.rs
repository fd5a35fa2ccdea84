use tokio::io::{AsyncRead, AsyncWrite};
use tower_layer::Layer;

use crate::{
    delivery::Delivery,
    linger::{Linger, LingerIo},
};

impl Linger {
    /// Joins a socket with the service of its connection, for an accept loop of
    /// one's own. Give both to hyper: within the bounds no early answer over HTTP/1 is
    /// lost, connections that can be kept are kept, and a close costs nothing where
    /// everything was read.
    ///
    /// A service is of one connection: join a clone of it with each socket. What
    /// buffers writes, TLS among it, goes around what this returns, and not inside.
    ///
    /// A `Router` of axum's is best given its state first, be it `()`: it makes its layers
    /// anew for each request otherwise, and what one of them counts is lost
    /// ([`Router::with_state`](https://docs.rs/axum/0.8/axum/struct.Router.html#method.with_state)).
    ///
    /// The service gets its request bodies as [`TrackedBody`](crate::delivery::TrackedBody)
    /// of the server's own: best it takes any body, as a `Router` does.
    ///
    /// ```no_run
    /// # #[cfg(feature = "axum")] {
    /// use axum::{Router, routing::post};
    /// use hyper::server::conn::http1;
    /// use hyper_util::{rt::TokioIo, service::TowerToHyperService};
    /// use tower_bodyguard::Linger;
    ///
    /// # async fn run() -> std::io::Result<()> {
    /// let app = Router::new().route("/", post(|body: String| async { body })).with_state(());
    /// let linger = Linger::default();
    /// let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
    /// loop {
    ///     let (socket, _) = listener.accept().await?;
    ///     let (io, service) = linger.wrap(socket, app.clone());
    ///     let service = TowerToHyperService::new(service);
    ///     tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(io), service));
    /// }
    /// # }
    /// # }
    /// ```
    pub fn wrap<T, S>(&self, io: T, service: S) -> (LingerIo<T>, Delivery<S>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = LingerIo::new(io, self).joined();
        let delivery = self.delivery_layer().layer(service);
        let delivery = delivery.joined(io.connection().cloned());
        (io, delivery)
    }
}
