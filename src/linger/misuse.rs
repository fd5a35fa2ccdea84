//! Wrong use that would lose the guarantee without a word.

use std::{
    any::type_name,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::observe::warn;

/// What a handle has seen of its use.
#[derive(Debug, Default)]
pub(super) struct Misuse {
    /// A server or a connection belongs to the handle.
    is_used: AtomicBool,
    /// The type of the sockets has been looked at.
    is_checked: AtomicBool,
    /// Connections were dropped with their runtime.
    has_dropped: AtomicBool,
}

impl Misuse {
    /// A server or a connection uses the handle.
    pub(super) fn used(&self) {
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// Looks at the type of the sockets, once.
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
        // By the names that rustls, native-tls, OpenSSL and s2n have for it.
        if socket.contains("TlsStream") || socket.contains("SslStream") {
            warn(format_args!(
                "the socket wrapper is around TLS ({socket}), and decrypts what it discards: wrap \
                 the TCP socket, and put TLS around that"
            ));
        }
    }

    /// The handle is told to shut down.
    pub(super) fn shuts_down(&self) {
        if !self.is_used.swap(true, Ordering::Relaxed) {
            warn(format_args!(
                "a `Linger` without a single connection shuts down: if its server had some, the \
                 server has another handle, which does not shut down"
            ));
        }
    }

    /// A lingering connection is dropped, and nobody told it to end.
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
