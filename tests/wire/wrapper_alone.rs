//! `LingerIo` alone: what it forwards, when it lingers, and when it does not.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tower_bodyguard::{Linger, LingerIo};

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await;
    (client.unwrap(), listener.accept().await.unwrap().0)
}

async fn until_none_linger(linger: &Linger) {
    let done = async {
        while linger.stats().lingering() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), done)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_socket_outlives_its_wrapper() {
    let linger = Linger::default();
    let (mut client, server) = tcp_pair().await;
    let mut server = LingerIo::new(server, &linger);
    server.write_all(b"response").await.unwrap();
    server.shutdown().await.unwrap();
    drop(server);
    assert_eq!(linger.stats().lingering(), 1);

    client.write_all(&vec![0; 16 << 20]).await.unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert_eq!(response, "response");
    drop(client);
    until_none_linger(&linger).await;
    let stats = linger.stats();
    assert_eq!((stats.delivered, stats.cut), (1, 0));
    assert_eq!(stats.discarded_bytes, 16 << 20);
}

#[tokio::test]
async fn reads_pass_after_a_half_close() {
    let linger = Linger::default();
    let (mut client, server) = tcp_pair().await;
    let mut server = LingerIo::new(server, &linger);
    server.shutdown().await.unwrap();
    client.write_all(b"still here").await.unwrap();
    let mut buffer = [0; 10];
    server.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"still here");
}

#[tokio::test]
async fn a_shutdown_may_be_repeated() {
    let (_client, server) = tcp_pair().await;
    let mut server = LingerIo::new(server, &Linger::default());
    for _ in 0..3 {
        server.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn no_linger_for_a_client_that_closed_first() {
    let linger = Linger::default();
    let (client, server) = tcp_pair().await;
    let mut server = LingerIo::new(server, &linger);
    drop(client);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    server.shutdown().await.unwrap();
    drop(server);
    assert_eq!(linger.stats().started, 0);
}

#[tokio::test]
async fn a_client_that_is_gone_does_no_harm() {
    let linger = Linger::default();
    let (client, server) = tcp_pair().await;
    let mut server = LingerIo::new(server, &linger);
    // The server's socket holds unread data when it is closed, so the kernel resets.
    server.write_all(b"unread").await.unwrap();
    client.readable().await.unwrap();
    drop(client);
    let error = poll_fn(|cx| Pin::new(&mut server).poll_read(cx, &mut ReadBuf::new(&mut [0])));
    assert_eq!(
        error.await.unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    server.shutdown().await.unwrap();
    drop(server);
    assert_eq!(linger.stats().lingering(), 0);
}

/// hyper drops the socket without a shutdown on some paths, and a response may be on its way.
#[tokio::test]
async fn a_drop_without_a_shutdown_lingers_for_what_was_written() {
    let linger = Linger::default();
    let (mut client, server) = tcp_pair().await;
    let mut server = LingerIo::new(server, &linger);
    server.write_all(b"HTTP/1.1 500 \r\n").await.unwrap();
    drop(server);
    assert_eq!(linger.stats().lingering(), 1);
    client.write_all(&vec![0; 16 << 20]).await.unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert_eq!(response, "HTTP/1.1 500 \r\n");
    drop(client);
    until_none_linger(&linger).await;
    assert_eq!(linger.stats().delivered, 1);
}

/// In HTTP/1.0 the end of the connection may be the end of the response.
#[tokio::test]
async fn http_1_0_response_that_was_aborted_does_not_look_whole() {
    let linger = Linger::default();
    let (mut client, server) = tcp_pair().await;
    let mut server = LingerIo::new(server, &linger);
    client.write_all(b"unread").await.unwrap();
    server.get_ref().readable().await.unwrap();
    server
        .write_all(b"HTTP/1.0 200 OK\r\n\r\nhalf an ans")
        .await
        .unwrap();
    drop(server);
    assert_eq!(linger.stats().started, 0);
    let error = client.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn no_linger_where_nothing_was_written() {
    let linger = Linger::default();
    let (_client, server) = tcp_pair().await;
    drop(LingerIo::new(server, &linger));
    assert_eq!(linger.stats().started, 0);
}

#[tokio::test]
async fn into_inner_gives_the_socket_back_permanently() {
    let linger = Linger::default();
    let (_client, server) = tcp_pair().await;
    let mut server = LingerIo::new(server, &linger);
    server.shutdown().await.unwrap();
    drop(server.into_inner());
    assert_eq!(linger.stats().started, 0);
}

/// Counts reads and writes. There is nothing to read.
#[derive(Debug, Default)]
struct Writes {
    reads: Arc<AtomicUsize>,
    plain: usize,
    vectored: usize,
    flushed_before_shutdown: bool,
    flushed: bool,
}

impl AsyncRead for Writes {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Writes {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.plain += 1;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.vectored += 1;
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed_before_shutdown = self.flushed;
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn vectored_writes_pass_and_small_ones_leave_as_one() {
    let mut io = LingerIo::new(Writes::default(), &Linger::default());
    assert!(io.is_write_vectored());
    let content = vec![0; 4096];
    let bufs = [IoSlice::new(b"one"), IoSlice::new(&content)];
    assert_eq!(io.write_vectored(&bufs).await.unwrap(), 3 + 4096);
    assert_eq!((io.get_ref().vectored, io.get_ref().plain), (1, 0));
    let bufs = [IoSlice::new(b"one"), IoSlice::new(b"two")];
    assert_eq!(io.write_vectored(&bufs).await.unwrap(), 6);
    assert_eq!((io.get_ref().vectored, io.get_ref().plain), (1, 1));
    io.write_all(b"three").await.unwrap();
    assert_eq!((io.get_ref().vectored, io.get_ref().plain), (1, 2));
    io.shutdown().await.unwrap();
    assert!(io.get_ref().flushed_before_shutdown);
}

/// Clients close most connections, so this must not cost a system call.
#[tokio::test]
async fn a_client_that_closed_is_not_asked_again() {
    let writes = Writes::default();
    let reads = Arc::clone(&writes.reads);
    let mut io = LingerIo::new(writes, &Linger::default());
    assert_eq!(io.read(&mut [0]).await.unwrap(), 0);
    io.shutdown().await.unwrap();
    drop(io);
    assert_eq!(reads.load(Ordering::SeqCst), 1);
}

#[test]
fn a_drop_outside_a_runtime_closes() {
    let linger = Linger::default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (client, server) = runtime.block_on(async {
        let (client, server) = tcp_pair().await;
        let mut server = LingerIo::new(server, &linger);
        server.shutdown().await.unwrap();
        (client, server)
    });
    drop(server);
    assert_eq!(linger.stats().started, 0);
    drop(client);
}

#[test]
fn a_runtime_that_ends_cuts_its_lingering() {
    let linger = Linger::default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _client = runtime.block_on(async {
        let (client, server) = tcp_pair().await;
        let mut server = LingerIo::new(server, &linger);
        server.shutdown().await.unwrap();
        client
    });
    drop(runtime);
    let stats = linger.stats();
    assert_eq!((stats.started, stats.cut), (1, 1));
}

/// A server awaits `closed` after its graceful shutdown.
#[tokio::test]
async fn closed_waits_for_the_last_linger() {
    let linger = Linger::default();
    linger.closed().await;
    let (client, server) = tcp_pair().await;
    let mut server = LingerIo::new(server, &linger);
    server.shutdown().await.unwrap();
    // The connection lingers from the half-close on, before there is a task.
    assert!(linger.closed().now_or_never().is_none());
    drop(server);
    let closed = tokio::spawn({
        let linger = linger.clone();
        async move { linger.closed().await }
    });
    assert_eq!(linger.stats().lingering(), 1);
    drop(client);
    tokio::time::timeout(Duration::from_secs(60), closed)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(linger.stats().delivered, 1);
}
