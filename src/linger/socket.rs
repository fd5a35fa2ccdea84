//! Finds the type of a wrapped socket at run time, because coherence forbids a special case beside
//! a blanket impl. Nothing is known of a socket of another type.

use std::any::Any;

use tokio::net::TcpStream;

/// Returns the TCP socket, if it is tokio's.
pub(super) fn tcp<T: 'static>(socket: &T) -> Option<&TcpStream> {
    let socket: &dyn Any = socket;
    socket.downcast_ref()
}

/// Returns the file descriptor of one of tokio's sockets.
#[cfg(unix)]
pub(super) fn descriptor<T: 'static>(socket: &T) -> Option<u64> {
    use std::os::fd::AsRawFd;

    use tokio::net::UnixStream;

    let descriptor = match tcp(socket) {
        Some(socket) => socket.as_raw_fd(),
        None => {
            let socket: &dyn Any = socket;
            socket.downcast_ref::<UnixStream>()?.as_raw_fd()
        }
    };
    u64::try_from(descriptor).ok()
}

#[cfg(not(unix))]
pub(super) fn descriptor<T: 'static>(_: &T) -> Option<u64> {
    None
}
