use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    delivery::Delivery,
    linger::{Linger, LingerIo},
};

impl Linger {
    /// Combines a socket with the service of its connection in a custom accept loop. Pass both to
    /// hyper. Within the limits, no early response over HTTP/1 is lost, and connections that can be
    /// kept are kept. If everything was read, closing a connection costs nothing.
    ///
    /// The returned service is for one connection only: combine each socket with a clone of
    /// `service`. A layer that buffers writes, such as TLS, goes around the returned socket, not
    /// inside.
    ///
    /// Give an axum `Router` its state first, even if that is `()`. Otherwise it makes its layers
    /// anew for each request, and loses what one of them counts
    /// ([`Router::with_state`](https://docs.rs/axum/0.8/axum/struct.Router.html#method.with_state)).
    ///
    /// The service receives each request body as a [`TrackedBody`](crate::delivery::TrackedBody)
    /// around the server's body type. So the service should accept any body, as a `Router` does.
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
        let io = LingerIo::new(io, self).combined();
        let connection = io.connection().cloned();
        let delivery = self.delivery_layer().with_connection(service, connection);
        (io, delivery)
    }
}
