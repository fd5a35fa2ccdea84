//! The signals that stop the server.

use std::io;

use tokio_util::sync::CancellationToken;

/// Returns a token that ctrl-c and SIGTERM cancel. From this call on both are caught, so that
/// neither ends the process with files left behind.
#[cfg(unix)]
pub(crate) fn stop() -> io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stopping.cancel();
    });
    Ok(stop)
}

/// Returns a token that ctrl-c cancels.
#[cfg(not(unix))]
pub(crate) fn stop() -> io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopping.cancel();
        }
    });
    Ok(stop)
}
