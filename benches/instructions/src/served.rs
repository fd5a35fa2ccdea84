//! Requests over loopback to an app of axum. The server and its client share a thread, so that
//! they always take turns in the same order. The counts include the client, which is small.

use std::{io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::DefaultBodyLimit,
    http::StatusCode,
    routing::{any, get, post},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tower::Layer;
use tower_bodyguard::BodyGuardLayer;
use tower_http::limit::RequestBodyLimitLayer;

const LIMIT: u64 = 16 << 10;

const STOCK: &str = "axum";
const TOWER_HTTP: &str = "tower-http";
const COMBINED: &str = "all parts combined";

/// The server, and what is around its app.
pub(crate) const SERVERS: &[&str] = &[STOCK, TOWER_HTTP, COMBINED];

/// Those of them that this crate is in.
pub(crate) const OURS: &[&str] = &[COMBINED];

/// A request of the client.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) name: &'static str,
    head: &'static str,
    body: Content,
    /// Whether each request has a connection of its own.
    pub(crate) is_alone: bool,
    status: &'static str,
}

/// The bytes after the head.
#[derive(Clone, Copy)]
enum Content {
    Plain(usize),
    Chunk(usize),
}

impl Content {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Plain(length) => vec![b'x'; length],
            Self::Chunk(length) => {
                let data = "x".repeat(length);
                format!("{length:x}\r\n{data}\r\n0\r\n\r\n").into_bytes()
            }
        }
    }
}

/// The time after which a kept connection is like any other.
const SETTLED: Duration = Duration::from_millis(1200);

const OK: &str = "HTTP/1.1 200 ";
const TOO_LARGE: &str = "HTTP/1.1 413 ";

/// Without a limit, the handlers of `/unread` and `/refused` respond as a limit would. Only the second
/// reads the body first.
pub(crate) const REQUESTS: &[Asked] = &[
    Asked {
        name: "GET, kept",
        head: "GET / HTTP/1.1\r\nhost: cost\r\n\r\n",
        body: Content::Plain(0),
        is_alone: false,
        status: OK,
    },
    Asked {
        name: "POST of 1 KiB, kept",
        head: "POST / HTTP/1.1\r\nhost: cost\r\ncontent-length: 1024\r\n\r\n",
        body: Content::Plain(1024),
        is_alone: false,
        status: OK,
    },
    Asked {
        name: "POST of 1 KiB, chunked, kept",
        head: "POST / HTTP/1.1\r\nhost: cost\r\ntransfer-encoding: chunked\r\n\r\n",
        body: Content::Chunk(1024),
        is_alone: false,
        status: OK,
    },
    Asked {
        name: "GET, a connection each",
        head: "GET / HTTP/1.1\r\nhost: cost\r\nconnection: close\r\n\r\n",
        body: Content::Plain(0),
        is_alone: true,
        status: OK,
    },
    Asked {
        name: "refused 20 MB, a connection each",
        head: "POST /unread HTTP/1.1\r\nhost: cost\r\ncontent-length: 20000000\r\n\r\n",
        body: Content::Plain(1024),
        is_alone: true,
        status: TOO_LARGE,
    },
    Asked {
        name: "refused 17 KiB, kept",
        head: "POST /refused HTTP/1.1\r\nhost: cost\r\ncontent-length: 17408\r\n\r\n",
        body: Content::Plain(17408),
        is_alone: false,
        status: TOO_LARGE,
    },
];

fn app() -> Router {
    let store = |body: Bytes| async move {
        drop(body);
        "stored\n"
    };
    let refused = (StatusCode::PAYLOAD_TOO_LARGE, "Upload too large.\n");
    let refuse = move |body: Bytes| async move {
        drop(body);
        refused
    };
    Router::new()
        .route("/", get(|| async { "stored\n" }).merge(post(store)))
        .route("/refused", any(refuse))
        .route("/unread", any(move || async move { refused }))
}

async fn serve(server: &str, listener: TcpListener) -> io::Result<()> {
    match server {
        STOCK => axum::serve(listener, app()).await,
        // The setup that axum documents.
        TOWER_HTTP => {
            let limit = RequestBodyLimitLayer::new(usize::try_from(LIMIT).expect("it fits"));
            let app = app().layer(DefaultBodyLimit::disable()).layer(limit);
            axum::serve(listener, app).await
        }
        COMBINED => {
            let app = BodyGuardLayer::axum(LIMIT).layer(app());
            tower_bodyguard::axum::serve(listener, app).await
        }
        _ => panic!("there is no server {server}"),
    }
}

pub(crate) fn run(request: &str, server: &str, times: usize) {
    let mut known = REQUESTS.iter().copied();
    let asked = known.find(|known| known.name == request);
    let asked = asked.expect("the request is known");
    let server = server.to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let talked = runtime.expect("a runtime").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        tokio::spawn(async move { serve(&server, listener).await });
        talk(addr, asked, times).await
    });
    talked.expect("the server responds");
}

/// Makes so many requests, one after another. Each is written as a whole.
async fn talk(addr: SocketAddr, asked: Asked, times: usize) -> io::Result<()> {
    let request = [asked.head.as_bytes(), &asked.body.bytes()].concat();
    let mut kept = None;
    let mut response = Vec::with_capacity(4096);
    for number in 0..times {
        let mut client = match kept.take() {
            Some(client) => client,
            None => TcpStream::connect(addr).await?,
        };
        client.write_all(&request).await?;
        response.clear();
        // A response this short arrives in one piece.
        assert_ne!(client.read_buf(&mut response).await?, 0, "a response");
        // Otherwise the client closes. It does not wait for the end, because the server waits for
        // the upload before it closes.
        if !asked.is_alone {
            kept = Some(client);
        }
        let text = response.starts_with(asked.status.as_bytes());
        assert!(text, "{}", String::from_utf8_lossy(&response));
        // A server's timers for a new connection are over soon.
        if kept.is_some() && number == 0 {
            sleep(SETTLED).await;
        }
    }
    Ok(())
}
