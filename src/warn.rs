use std::fmt;

/// Logs wrong use of the crate that cannot be reported in another way.
///
/// With the feature `tracing`, it logs to `tracing`. Without it, it writes to standard error, in
/// debug builds only: in production, standard error belongs to the application.
#[cold]
pub(crate) fn warn(message: fmt::Arguments<'_>) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "tower_bodyguard", "{message}");
    #[cfg(not(feature = "tracing"))]
    if cfg!(debug_assertions) {
        eprintln!("tower-bodyguard: {message}");
    }
}
