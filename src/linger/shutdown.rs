//! The end of a server: what is still read has some time left, and no more.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::Linger;

/// For what has been told to end.
const LAST_TURN: Duration = Duration::from_secs(1);

/// What became of the connections that lingered while a server shut down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// Connections that the client closed: it had its answer.
    pub delivered: u64,
    /// Connections that ended at a bound, at the end of the shutdown, or because the
    /// client reset.
    pub cut: u64,
}

impl Linger {
    /// The signal for a server's graceful shutdown, and for this handle.
    ///
    /// A server that shuts down waits for its connections, and they for the bodies
    /// that are read on in them: drains, and lingering streams of HTTP/2. These end at
    /// the latest at the
    /// [`shutdown_timeout`](crate::LingerConfig::shutdown_timeout), counted from the signal. A client
    /// that neither sends nor reads its answer is not among them: it holds a server up as
    /// any slow reader does. A response that its client reads goes on to its end.
    ///
    /// The signal counts for all servers of this handle, of its clones and of its children.
    /// Servers that stop at different times need a [`child`](Self::child) each: after that timeout
    /// no body is drained for any server of this handle.
    ///
    /// ```no_run
    /// # #[cfg(feature = "axum")]
    /// # async fn run(listener: tokio::net::TcpListener, app: axum::Router) -> std::io::Result<()> {
    /// use std::time::Duration;
    /// use tower_bodyguard::{Linger, LingerConfig};
    ///
    /// let linger = Linger::default();
    /// let ctrl_c = async {
    ///     let _ = tokio::signal::ctrl_c().await;
    /// };
    /// axum::serve(linger.listener(listener), app).with_graceful_shutdown(linger.on(ctrl_c)).await?;
    /// let ended = linger.shutdown(Duration::from_secs(10)).await;
    /// eprintln!("{} refused clients have their answer, {} were cut off", ended.delivered, ended.cut);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on<S>(&self, signal: S) -> impl Future<Output = ()> + Send + use<S>
    where
        S: Future + Send,
    {
        let linger = self.clone();
        async move {
            signal.await;
            linger.shuts_down();
            let delivery = Arc::clone(linger.delivery());
            let timeout = linger.shutdown_timeout();
            tokio::spawn(async move {
                sleep(timeout).await;
                delivery.end();
            });
        }
    }

    /// Waits until no connection lingers, but no longer than `bound`; those that still do
    /// are closed then. Says how many there were of each since the signal for
    /// [`on`](Self::on), or since this was first called.
    ///
    /// Call it when the server itself has ended. It is for good: what comes after the
    /// bound is not lingered for.
    ///
    /// # Cancel safety
    ///
    /// Dropped before the bound, it has only waited; it may be called again.
    pub async fn shutdown(&self, bound: Duration) -> Shutdown {
        let before = self.shuts_down();
        if timeout(bound, self.closed()).await.is_err() {
            // They end as soon as they have their turn, which others may hold up.
            self.delivery().end();
            let _ = timeout(LAST_TURN, self.delivery().ended()).await;
            self.tasks().end();
            let _ = timeout(LAST_TURN, self.tasks().ended()).await;
        }
        let now = self.stats();
        Shutdown {
            delivered: now.delivered - before.delivered,
            cut: now.cut - before.cut,
        }
    }
}
