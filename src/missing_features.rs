//! Stand-ins for the methods of disabled features, so that the compiler names the missing feature.
//!
//! These methods cannot be called, because no type implements the traits. The lifetimes make the
//! compiler check the bounds at each call.

#[cfg(any(
    not(feature = "axum"),
    not(feature = "axum-server"),
    not(feature = "tonic")
))]
use crate::Linger;

#[cfg(not(feature = "axum"))]
#[diagnostic::on_unimplemented(message = "this needs the feature `axum` of tower-bodyguard")]
pub trait FeatureAxum {}

#[cfg(not(feature = "axum"))]
impl crate::BodyGuardLayer {
    #[doc(hidden)]
    pub fn axum<L: FeatureAxum>(_limit: L) -> Self {
        Self::new(0)
    }
}

#[cfg(not(feature = "axum"))]
impl Linger {
    #[doc(hidden)]
    pub fn listener<L: FeatureAxum>(&self, listener: L) -> L {
        listener
    }
}

#[cfg(not(feature = "axum-server"))]
#[diagnostic::on_unimplemented(message = "this needs the feature `axum-server` of tower-bodyguard")]
pub trait FeatureAxumServer {}

#[cfg(not(feature = "axum-server"))]
impl Linger {
    #[doc(hidden)]
    #[must_use]
    pub fn acceptor<'a>(&'a self) -> &'a Self
    where
        &'a Self: FeatureAxumServer,
    {
        self
    }
}

#[cfg(not(feature = "tonic"))]
#[diagnostic::on_unimplemented(message = "this needs the feature `tonic` of tower-bodyguard")]
pub trait FeatureTonic {}

#[cfg(not(feature = "tonic"))]
impl Linger {
    #[doc(hidden)]
    pub fn incoming<I: FeatureTonic>(&self, stream: I) -> I {
        stream
    }
}

#[cfg(not(feature = "tracing"))]
#[diagnostic::on_unimplemented(message = "this needs the feature `tracing` of tower-bodyguard")]
pub trait FeatureTracing {}

#[cfg(not(feature = "tracing"))]
impl crate::Observer {
    #[doc(hidden)]
    #[must_use]
    pub fn tracing<'a>() -> Self
    where
        &'a Self: FeatureTracing,
    {
        Self::default()
    }
}

#[cfg(not(feature = "metrics"))]
#[diagnostic::on_unimplemented(message = "this needs the feature `metrics` of tower-bodyguard")]
pub trait FeatureMetrics {}

#[cfg(not(feature = "metrics"))]
impl crate::Observer {
    #[doc(hidden)]
    #[must_use]
    pub fn metrics<'a>() -> Self
    where
        &'a Self: FeatureMetrics,
    {
        Self::default()
    }
}
