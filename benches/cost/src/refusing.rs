//! Servers that refuse an upload and drain it, ours and others, and one that keeps its connections.

use std::{
    io,
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    routing::{get, post},
};
use http_body_util::BodyExt;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    time::interval,
};
use tokio_rustls::{TlsAcceptor, rustls};
use tower_bodyguard::{BodyGuardLayer, Drain, Linger, LingerConfig, MIB};

/// As many bytes as ours takes.
const CHUNK: usize = 256 << 10;
const ANSWER: &[u8] =
    b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
/// A timeout longer than any measurement. It applies unless an argument sets another.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// Runs the server of that name. All names begin with `refusing-`.
pub(crate) fn serve(name: &str, args: &[String]) {
    let number = |at: usize| args.get(at).and_then(|arg| arg.parse().ok());
    let idle = number(0).map_or(LONG, Duration::from_secs);
    match name {
        "refusing-ours" => runtime().block_on(ours(&linger(idle), false)),
        "refusing-ours-tls" => runtime().block_on(ours(&linger(idle), true)),
        "refusing-idle" => runtime().block_on(idling(false)),
        "refusing-idle-tls" => runtime().block_on(idling(true)),
        "refusing-live" => live(number(0).expect("how many"), false),
        "refusing-live-tls" => live(number(0).expect("how many"), true),
        "refusing-bare" => runtime().block_on(by_hand(Late::Truncated)),
        "refusing-reading" => runtime().block_on(by_hand(Late::Read)),
        "refusing-decrypting" => runtime().block_on(by_hand(Late::Decrypted)),
        _ => panic!("there is no server {name}"),
    }
}

/// Builds a runtime like `#[tokio::main]`, with as many workers as usable cores.
fn runtime() -> Runtime {
    let runtime = Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime")
}

async fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("it is bound"));
    listener
}

fn linger(idle: Duration) -> Linger {
    let drain = Drain::new().max_bytes(1 << 36).timeout(LONG);
    let config = LingerConfig::new()
        .idle_timeout(idle)
        .timeout(LONG)
        .max_connections(1 << 20)
        .drain(drain);
    Linger::new(config)
}

/// Returns our app. It refuses uploads to `/upload` by their head, reads and drops those to
/// `/read`, and leaves those to `/leave` to delivery.
fn app() -> Router {
    let read = |mut body: Body| async move { while let Some(Ok(_)) = body.frame().await {} };
    let upload = post(|_: Bytes| async {}).layer(BodyGuardLayer::axum(MIB));
    Router::new()
        .route("/upload", upload)
        .route("/read", post(read))
        .route("/leave", post(|| async {}))
}

async fn ours(linger: &Linger, tls: bool) {
    serve_ours(linger, app(), tls, listen().await).await;
}

/// `GET /stats` returns: lingers started, delivered and cut, and bytes discarded.
async fn serve_ours(linger: &Linger, app: Router, tls: bool, listener: TcpListener) {
    let counted = linger.clone();
    let stats = move || async move {
        let stats = counted.stats();
        let (started, delivered, cut) = (stats.started, stats.delivered, stats.cut);
        format!("{started} {delivered} {cut} {}", stats.discarded_bytes)
    };
    let app = app.route("/stats", get(stats));
    if !tls {
        return tower_bodyguard::axum::serve(listener, app)
            .with_linger(linger)
            .await
            .expect("it never ends");
    }
    let acceptor = acceptor();
    loop {
        let (socket, _) = listener.accept().await.expect("descriptors are left");
        let (io, service) = linger.wrap(socket, app.clone());
        tokio::spawn(over_tls(acceptor.clone(), io, service));
    }
}

/// Runs hyper's connections, which are kept.
async fn idling(tls: bool) {
    let listener = listen().await;
    let app = app();
    if !tls {
        return axum::serve(listener, app).await.expect("it never ends");
    }
    let acceptor = acceptor();
    loop {
        let (socket, _) = listener.accept().await.expect("descriptors are left");
        tokio::spawn(over_tls(acceptor.clone(), socket, app.clone()));
    }
}

async fn over_tls<I, S, B>(acceptor: TlsAcceptor, io: I, service: S)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: tower::Service<http::Request<hyper::body::Incoming>, Response = http::Response<B>>,
    S: Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    B: Send + 'static,
{
    let Ok(io) = acceptor.accept(io).await else {
        return;
    };
    let builder = auto::Builder::new(TokioExecutor::new());
    let service = TowerToHyperService::new(service);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
    // A client that leaves without an end of TLS is a common error.
    let _ = connection.await;
}

fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["cost".to_owned()]);
    let made = made.expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.into()], made.signing_key.into())
        .expect("a certificate that is valid");
    TlsAcceptor::from(Arc::new(config))
}

/// Runs ours on one thread, where allocations can be counted. `GET /live` returns the number of
/// allocated bytes and allocations once `most` connections linger.
fn live(most: u64, tls: bool) {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let linger = linger(LONG);
    let counted = Arc::new(OnceLock::new());
    let said = Arc::clone(&counted);
    let said = move || async move { said.get().cloned().unwrap_or_default() };
    let listener = runtime.block_on(listen());
    let serving = serve_ours(&linger, app().route("/live", get(said)), tls, listener);
    let mut serving: Pin<&mut dyn Future<Output = ()>> = pin!(serving);
    let info = allocation_counter::measure(|| {
        runtime.block_on(async {
            tokio::select! {
                () = &mut serving => {}
                () = lingering(&linger, most) => {}
            }
        });
    });
    let _ = counted.set(format!("{} {}", info.bytes_current, info.count_current));
    runtime.block_on(serving);
}

async fn lingering(linger: &Linger, most: u64) {
    let mut look = interval(Duration::from_millis(20));
    while linger.stats().lingering() < most {
        look.tick().await;
    }
}

/// How a hand-written server handles late data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Late {
    /// It discards in the kernel.
    Truncated,
    /// It reads, 64 KiB at a time.
    Read,
    /// It reads 64 KiB at a time from TLS.
    Decrypted,
}

/// Runs the smallest server that responds, half-closes and drains: no limits, no counters, no HTTP.
async fn by_hand(late: Late) {
    let listener = listen().await;
    let acceptor = acceptor();
    loop {
        let (socket, _) = listener.accept().await.expect("descriptors are left");
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // If this fails, its client has left.
            let _ = match late {
                Late::Truncated => truncate(socket).await,
                Late::Read => read(socket).await,
                Late::Decrypted => match acceptor.accept(socket).await {
                    Ok(io) => read(io).await,
                    Err(error) => Err(error),
                },
            };
        });
    }
}

/// Responds after a single read, because the client sends its head in one piece.
async fn respond<T: AsyncRead + AsyncWrite + Unpin>(io: &mut T) -> io::Result<()> {
    let _ = io.read(&mut [0; 1024]).await?;
    io.write_all(ANSWER).await?;
    io.shutdown().await
}

async fn read<T: AsyncRead + AsyncWrite + Unpin>(mut io: T) -> io::Result<()> {
    respond(&mut io).await?;
    let mut buffer = vec![0; 64 << 10];
    while io.read(&mut buffer).await? > 0 {}
    Ok(())
}

thread_local! {
    /// Never touched, because nothing is written to it.
    static NOWHERE: std::cell::RefCell<Vec<u8>> =
        std::cell::RefCell::new(Vec::with_capacity(CHUNK));
}

async fn truncate(mut socket: TcpStream) -> io::Result<()> {
    respond(&mut socket).await?;
    loop {
        socket.readable().await?;
        let mut read = 0;
        let result = socket.try_io(Interest::READABLE, || {
            read = NOWHERE.with_borrow_mut(|nowhere| {
                let spare = &mut nowhere.spare_capacity_mut()[..CHUNK];
                SockRef::from(&socket).recv_with_flags(spare, nix::libc::MSG_TRUNC)
            })?;
            match read {
                0 => Ok(()),
                // The queue is empty, so wait for the next event.
                1..CHUNK => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        });
        match result {
            Ok(()) if read == 0 => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
}
