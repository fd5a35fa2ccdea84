//! Detects wrong use that would lose the guarantee silently.

use std::{
    any::type_name,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::warn::warn;

/// A record of how a handle is used.
#[derive(Debug, Default)]
pub(super) struct Misuse {
    /// Whether a server or a connection uses the handle.
    is_used: AtomicBool,
    /// Whether the type of the sockets has been checked.
    is_checked: AtomicBool,
    /// Whether connections were dropped with their runtime.
    has_dropped: AtomicBool,
}

impl Misuse {
    /// Records that a server or a connection uses the handle.
    pub(super) fn used(&self) {
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// Checks the type of the sockets, once.
    pub(super) fn check<T>(&self) {
        if !self.is_checked.load(Ordering::Relaxed) {
            self.check_first::<T>();
            self.is_checked.store(true, Ordering::Relaxed);
        }
    }

    #[cold]
    fn check_first<T>(&self) {
        self.used();
        let socket = type_name::<T>();
        // rustls, native-tls, OpenSSL and s2n use these names.
        if socket.contains("TlsStream") || socket.contains("SslStream") {
            warn(format_args!(
                "the socket wrapper is around TLS ({socket}), and decrypts what it discards: wrap \
                 the TCP socket, and put TLS around that"
            ));
        }
    }

    /// Records that a shutdown of the handle begins, and warns if nothing has used the handle.
    pub(super) fn shuts_down(&self) {
        if !self.is_used.swap(true, Ordering::Relaxed) {
            warn(format_args!(
                "a `Linger` without a single connection shuts down: if its server had some, the \
                 server has another handle, which does not shut down"
            ));
        }
    }

    /// Warns, once, that a lingering connection was dropped without a shutdown.
    pub(super) fn dropped(&self) {
        if !self.has_dropped.swap(true, Ordering::Relaxed) {
            warn(format_args!(
                "a runtime ended while connections lingered, and their clients may lose the \
                 response: await `tower_bodyguard::axum::serve` with `with_graceful_shutdown`, or \
                 `Linger::shutdown`, before `main` returns"
            ));
        }
    }
}
