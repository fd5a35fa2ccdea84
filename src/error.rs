/// Any error, as the bodies of this crate, hyper and axum pass it on.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
