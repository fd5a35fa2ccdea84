use std::sync::Arc;

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
}
