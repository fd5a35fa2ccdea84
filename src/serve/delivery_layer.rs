use std::{net::SocketAddr, sync::Arc};

use crate::{delivery::DeliveryLayer, linger::Linger};

impl Linger {
    /// Returns delivery with these settings as a layer. It is for servers that make no service for
    /// each connection, such as tonic. Put it outermost.
    ///
    /// With [`wrap`](Self::wrap) or `serve`, delivery is combined with the socket wrapper already.
    ///
    /// ```
    /// use tower::ServiceBuilder;
    /// use tower_bodyguard::{BodyGuardLayer, Linger, MIB};
    ///
    /// let linger = Linger::default();
    /// let layers = ServiceBuilder::new()
    ///     .layer(linger.delivery_layer())
    ///     .layer(BodyGuardLayer::new(4 * MIB));
    /// ```
    #[must_use]
    pub fn delivery_layer(&self) -> DeliveryLayer {
        self.used();
        DeliveryLayer::of(Arc::clone(self.delivery()))
    }

    /// Returns delivery as a layer for one connection, whose client is at `addr`. It is for servers
    /// whose connections are no sockets, as those of HTTP/3. Put it outermost.
    ///
    /// The streams of the connection take the slots of the client that
    /// [`LingerConfig::peer_key`](crate::LingerConfig::peer_key) finds.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use axum::Router;
    /// use tower::Layer;
    /// use tower_bodyguard::Linger;
    ///
    /// fn service(app: Router, linger: &Linger, addr: SocketAddr) -> impl Clone {
    ///     linger.delivery_layer_for(addr).layer(app)
    /// }
    /// ```
    #[must_use]
    pub fn delivery_layer_for(&self, addr: SocketAddr) -> DeliveryLayer {
        self.delivery_layer().with_peer(self.peer_at(addr))
    }
}
