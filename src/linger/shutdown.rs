//! The shutdown of a server: drains and lingering connections get a limited time to end.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::Linger;

/// The time that aborted tasks get to be dropped.
const LAST_TURN: Duration = Duration::from_secs(1);

/// The results of the connections that lingered while a server shut down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// Connections that the client closed: it had received its response.
    pub delivered: u64,
    /// Connections that ended at a limit, at the end of the shutdown, or because the client reset
    /// them.
    pub cut: u64,
}

impl Linger {
    /// Returns a future for a server's graceful shutdown. It completes with `signal`, and begins
    /// the shutdown of this handle.
    ///
    /// A server that shuts down waits for its connections. They wait for the bodies that are being
    /// discarded: drains, and lingering HTTP/2 streams. These end at the latest after the
    /// [`shutdown_timeout`](crate::LingerConfig::shutdown_timeout), counted from the signal. This
    /// timeout does not apply to a client that neither sends nor reads its response. Such a client
    /// delays a server as any slow reader does. A response that its client reads goes on to its
    /// end.
    ///
    /// The signal counts for all servers of this handle, of its clones and of its children. Servers
    /// that stop at different times need a [`child`](Self::child) each, because after that timeout
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
    /// eprintln!("{} refused clients have the response, {} were cut off", ended.delivered, ended.cut);
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

    /// Waits until no connection lingers, but at most for `bound`, and then closes the connections
    /// that still linger. Returns how many connections ended in each way since the signal for
    /// [`on`](Self::on), or since the first call.
    ///
    /// Call this when the server itself has ended. It is permanent: a connection that is closed
    /// after `bound` does not linger.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before `bound` is over, it has only waited. You may call this
    /// again.
    pub async fn shutdown(&self, bound: Duration) -> Shutdown {
        let before = self.shuts_down();
        if timeout(bound, self.closed()).await.is_err() {
            // Aborted tasks end when the runtime polls them, which other tasks may delay.
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
