use std::sync::Arc;

use crate::{delivery::DeliveryLayer, linger::Linger};

impl Linger {
    /// Delivery by these settings, as a layer: for servers that make no service for
    /// each connection, tonic's among them. It is the outermost.
    ///
    /// Where [`join`](Self::join) or `serve` can be had, delivery is joined already.
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
