use std::fmt;

/// Reports wrong use that nothing but a log can tell: to `tracing` (feature `tracing`), and
/// without that feature to standard error in debug builds. In production, standard error is the
/// application's.
#[cold]
pub(crate) fn warn(message: fmt::Arguments<'_>) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "tower_bodyguard", "{message}");
    #[cfg(not(feature = "tracing"))]
    if cfg!(debug_assertions) {
        eprintln!("tower-bodyguard: {message}");
    }
}
