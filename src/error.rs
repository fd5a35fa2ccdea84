/// A boxed error of any type, as the bodies of this crate return it and hyper and axum accept it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
