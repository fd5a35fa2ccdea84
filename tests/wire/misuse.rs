//! Wrong use that would lose the guarantee panics or logs one line.
#![cfg(feature = "axum")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use testkit::log::logged;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
};
use tower_bodyguard::{Linger, LingerIo};

fn panics(wrong: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(wrong)).expect_err("it panics");
    let message = panic.downcast_ref::<String>().cloned();
    message.unwrap_or_else(|| panic.downcast_ref::<&str>().unwrap().to_string())
}

#[tokio::test]
async fn wrapping_twice_panics() {
    let linger = Linger::default();
    let wrapped = || LingerIo::new(duplex(1).0, &linger);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listener = linger.listener(listener);
    let message = panics(|| drop(LingerIo::new(wrapped(), &linger)));
    assert!(message.contains("wrapped already"), "{message}");
    let message = panics(|| drop(linger.wrap(wrapped(), ())));
    assert!(message.contains("wrapped already"), "{message}");
    let message = panics(|| drop(linger.listener(listener)));
    assert!(message.contains("wrapped already"), "{message}");
}

/// A stand-in for a TLS stream. The wrapper recognises TLS by the name of the type.
mod tls {
    use std::{
        io::Result,
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

    pub(super) struct TlsStream(pub(super) DuplexStream);

    impl AsyncRead for TlsStream {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for TlsStream {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }
}

#[test]
fn wrapping_around_tls_is_reported_once() {
    let log = logged(async {
        let linger = Linger::default();
        for _ in 0..2 {
            drop(LingerIo::new(tls::TlsStream(duplex(1).0), &linger));
        }
    });
    assert_eq!(log.matches("is around TLS").count(), 1, "{log}");
    let plain = logged(async {
        drop(LingerIo::<DuplexStream>::new(
            duplex(1).0,
            &Linger::default(),
        ));
    });
    assert!(plain.is_empty(), "{plain}");
}

#[test]
fn shutdown_of_another_handle_is_reported_once() {
    let log = logged(async {
        let (used, other) = (Linger::default(), Linger::default());
        drop(LingerIo::new(duplex(1).0, &used));
        used.shutdown(Duration::ZERO).await;
        other.on(async {}).await;
        other.shutdown(Duration::ZERO).await;
    });
    assert_eq!(
        log.matches("without a single connection").count(),
        1,
        "{log}"
    );

    // A server that had no client yet does not count as misuse.
    let idle = logged(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = axum::Router::<()>::new();
        let server = tower_bodyguard::axum::serve(listener, app);
        server.with_graceful_shutdown(async {}).await.unwrap();
        let linger = Linger::default();
        let _layer = linger.delivery_layer();
        linger.shutdown(Duration::ZERO).await;
    });
    assert!(idle.is_empty(), "{idle}");
}

/// Sends the first bytes of a body to a server that responds immediately and closes. Returns the
/// client after it has read the response.
async fn refused(linger: &Linger) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tower_bodyguard::axum::serve(listener, axum::Router::<()>::new());
    tokio::spawn(server.with_linger(linger).into_future());
    let mut client = TcpStream::connect(addr).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 20000000\r\n\r\n";
    client.write_all(head).await.unwrap();
    let mut response = Vec::new();
    client.read_to_end(&mut response).await.unwrap();
    assert!(response.starts_with(b"HTTP/1.1 404 "));
    client
}

#[test]
fn shutdown_that_is_forgotten_is_reported_once() {
    let forgotten = logged(async {
        let linger = Linger::default();
        let _clients = (refused(&linger).await, refused(&linger).await);
        // Each connection whose client has read the end lingers by now, or will before the runtime
        // ends.
        while linger.stats().lingering() < 2 {
            tokio::task::yield_now().await;
        }
    });
    let said = forgotten.matches("a runtime ended while connections lingered");
    assert_eq!(said.count(), 1, "{forgotten}");

    let awaited = logged(async {
        let linger = Linger::default();
        let _client = refused(&linger).await;
        linger.shutdown(Duration::ZERO).await;
    });
    assert!(awaited.is_empty(), "{awaited}");
}
