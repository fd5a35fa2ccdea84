//! The compared servers.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener as StdListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use actix_web::{App, HttpResponse, HttpServer, web};
use axum::{
    Router,
    body::Bytes,
    extract::DefaultBodyLimit,
    http::StatusCode,
    routing::{any, get, post},
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tower::{Layer, layer::util::Identity};
use tower_bodyguard::{BodyGuardLayer, Linger, LingerConfig};
use tower_http::limit::RequestBodyLimitLayer;

use crate::process::{Cores, Process, all_descriptors};

/// The response to an accepted request.
const ANSWER: &str = "stored\n";

/// As long as the limit layer's own text.
const REFUSED: &str = "Upload too large: 19.1 MiB. The limit is 16 KiB. Choose a smaller file.\n";

/// The layers around the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Around {
    Nothing,
    /// A layer that does nothing. axum wraps every layer alike.
    Identity,
    TowerHttp,
    Guard,
    /// The socket wrapper with axum's own `serve`.
    Wrapper,
    /// This crate's `serve`, which combines the socket wrapper with delivery, and no limit layer.
    Serve,
    /// The same, and the limit layer around the whole app.
    Combined,
    /// The same, and the limit layer by `Router::layer`.
    CombinedByLayer,
}

impl Around {
    const ALL: [Self; 8] = [
        Self::Nothing,
        Self::Identity,
        Self::TowerHttp,
        Self::Guard,
        Self::Wrapper,
        Self::Serve,
        Self::Combined,
        Self::CombinedByLayer,
    ];

    /// Returns the name as an argument.
    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Identity => "identity",
            Self::TowerHttp => "tower-http",
            Self::Guard => "guard",
            Self::Wrapper => "wrapper",
            Self::Serve => "serve",
            Self::Combined => "combined",
            Self::CombinedByLayer => "combined-by-layer",
        }
    }

    /// Describes the layers for the page.
    pub(crate) const fn in_words(self) -> &'static str {
        match self {
            Self::Nothing => "nothing: axum alone",
            Self::Identity => "a layer that does nothing",
            Self::TowerHttp => "`RequestBodyLimitLayer` of tower-http",
            Self::Guard => "the limit layer alone, by `Router::layer`",
            Self::Wrapper => "the socket wrapper alone, with `axum::serve`",
            Self::Serve => "`serve` of this crate, no limit layer",
            Self::Combined => "all parts combined",
            Self::CombinedByLayer => "all parts combined, the limit layer by `Router::layer`",
        }
    }
}

/// A running server. It ends when this is dropped.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    _folder: Option<TempDir>,
}

impl Server {
    pub(crate) fn axum(around: Around, limit: u64, cores: Option<Cores>) -> Self {
        Self::own("axum", &[around.name(), &limit.to_string()], cores)
    }

    pub(crate) fn actix(limit: u64, cores: Option<Cores>) -> Self {
        Self::own("actix", &[&limit.to_string()], cores)
    }

    /// Starts a server whose connections linger as long as their clients stay.
    pub(crate) fn lingering(cores: Option<Cores>) -> Self {
        Self::own("lingering", &[], cores)
    }

    fn own(name: &str, args: &[&str], cores: Option<Cores>) -> Self {
        let (process, addr) = Process::serve(name, args, cores.map(|cores| cores.server));
        Self {
            process,
            addr,
            _folder: None,
        }
    }

    pub(crate) fn nginx(program: &Path, limit: u64, cores: Option<Cores>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // nginx cannot report the port that it took. This one was free a moment ago.
        let free = StdListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let addr = free.expect("there is a free port");
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr crit;
             events {{ worker_connections 4096; }}
             http {{
                 access_log off; keepalive_requests 1000000000;
                 client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
                 uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                 server {{
                     listen {addr}; client_max_body_size {limit};
                     location / {{ return 200 \"stored\\n\"; }}
                     location = /refused {{ return 413; }}
                 }}
             }}"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config).expect("the folder can be written");
        let mut command = match cores {
            Some(cores) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &cores.server.to_string()]).arg(program);
                command
            }
            None => Command::new(program),
        };
        // Without `-e`, nginx writes its first messages to a system log.
        command.args(["-e", "stderr", "-p"]).arg(folder.path());
        command.arg("-c").arg(&file).stdin(Stdio::null());
        let process = Process::of(command.spawn().expect("it can be run"));
        let start = Instant::now();
        while TcpStream::connect(addr).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "it comes up");
            std::thread::sleep(Duration::from_millis(1));
        }
        Self {
            process,
            addr,
            _folder: Some(folder),
        }
    }
}

/// Returns nginx's path and version, if it is installed.
pub(crate) fn find_nginx() -> Option<(PathBuf, String)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let program = folders.map(|folder| folder.join("nginx"));
    let program = program.into_iter().find(|program| program.is_file())?;
    let said = Command::new(&program).arg("-v").output().ok()?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let version = said.trim().rsplit('/').next()?;
    Some((program, format!("nginx {version}")))
}

/// Runs one of the servers of this program.
pub(crate) fn serve(name: &str, args: &[String]) {
    let result = match (name, args) {
        ("axum", [around, limit]) => {
            let around = Around::ALL.into_iter().find(|known| known.name() == around);
            serve_axum(around.expect("it is known"), parse(limit))
        }
        ("actix", [limit]) => serve_actix(parse(limit)),
        ("lingering", []) => serve_lingering(),
        _ => panic!("there is no server {name} {args:?}"),
    };
    result.expect("it serves until it is ended");
}

fn parse(limit: &str) -> u64 {
    limit.parse().expect("a number of bytes")
}

fn app() -> Router {
    let store = |body: Bytes| async move {
        drop(body);
        ANSWER
    };
    Router::new()
        .route("/", get(|| async { ANSWER }).merge(post(store)))
        .route(
            "/refused",
            // The body is read, if there is one.
            any(|_: Bytes| async { (StatusCode::PAYLOAD_TOO_LARGE, REFUSED) }),
        )
}

async fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    Ok(listener)
}

/// Like `#[tokio::main]`, but with a single worker thread, which also accepts.
fn on_one_worker<F>(serve: F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build()?;
    runtime.block_on(runtime.spawn(serve)).expect("no panic")
}

fn serve_axum(around: Around, limit: u64) -> io::Result<()> {
    on_one_worker(async move {
        let listener = listen().await?;
        let guard = BodyGuardLayer::axum(limit);
        match around {
            Around::Nothing => axum::serve(listener, app()).await,
            Around::Identity => axum::serve(listener, app().layer(Identity::new())).await,
            // The setup that axum documents.
            Around::TowerHttp => {
                let limit = RequestBodyLimitLayer::new(usize::try_from(limit).expect("it fits"));
                let app = app().layer(DefaultBodyLimit::disable()).layer(limit);
                axum::serve(listener, app).await
            }
            Around::Guard => axum::serve(listener, app().layer(guard)).await,
            Around::Wrapper => axum::serve(Linger::default().listener(listener), app()).await,
            Around::Serve => tower_bodyguard::axum::serve(listener, app()).await,
            Around::Combined => tower_bodyguard::axum::serve(listener, guard.layer(app())).await,
            Around::CombinedByLayer => {
                tower_bodyguard::axum::serve(listener, app().layer(guard)).await
            }
        }
    })
}

fn serve_lingering() -> io::Result<()> {
    all_descriptors();
    let long = Duration::from_secs(3600);
    // The number of slots is large, because evictions would end the measured lingers.
    let linger = Linger::new(
        LingerConfig::new()
            .max_connections(1 << 20)
            .idle_timeout(long)
            .timeout(long),
    );
    on_one_worker(async move {
        let app = BodyGuardLayer::axum(16 << 10).layer(app());
        tower_bodyguard::axum::serve(listen().await?, app)
            .with_linger(&linger)
            .await
    })
}

fn serve_actix(limit: u64) -> io::Result<()> {
    let limit = usize::try_from(limit).expect("it fits");
    let app = move || {
        App::new()
            .app_data(web::PayloadConfig::new(limit))
            .route("/", web::get().to(|| async { ANSWER }))
            .route("/", web::post().to(|_: Bytes| async { ANSWER }))
            .route(
                "/refused",
                web::get().to(|| async { HttpResponse::PayloadTooLarge().body(REFUSED) }),
            )
    };
    actix_web::rt::System::new().block_on(async {
        let server = HttpServer::new(app).workers(1).bind("127.0.0.1:0")?;
        println!("{}", server.addrs()[0]);
        server.run().await
    })
}
