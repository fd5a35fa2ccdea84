//! gRPC clients against the example `grpc_upload`, both as executables. Each reads
//! `RESOURCE_EXHAUSTED` and the reason, in each of several calls of 20 MB (`TRIES`, 5 if not set).
//! Then the server counts a smaller call. grpcio makes all its calls over one connection.
//!
//! grpcio and grpc-js do not repeat a refused call, even if their policy repeats that status.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, body::Bytes, middleware::map_response, response::Response};
use libtest_mimic::Failed;
use tokio::net::TcpListener;
use tower_bodyguard::BodyGuardLayer;

use testkit::outside::{Form, Need, Trial, interpreter, repository, succeed, trial};

const LARGE: &str = "20000000";
const SMALL: &str = "1000000";
const LIMIT: &str = "limit is 4 MiB";

type Test = fn(&Form) -> Result<(), Failed>;

/// Started by the first trial, and dropped with the last.
struct Server(Form);

impl Server {
    fn start() -> Self {
        // This starts any example that prints its address.
        let program = Command::new(program());
        Self(Form::start_by(program, "127.0.0.1:0", &["--limit", "4MiB"]))
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let server = Arc::new(LazyLock::new(Server::start as fn() -> Server));
    let grpc_js = Need::file(&repository("tests/browser/node_modules/@grpc/grpc-js"));
    let clients: [(&str, Vec<Need>, Test); 5] = [
        ("the_example", vec![], the_example),
        ("grpcio", vec![Need::python("grpc")], grpcio),
        (
            "grpcio_repeats_no_refused_call",
            vec![Need::python("grpc")],
            |_| {
                let python = interpreter("grpc").expect("the trial needs it");
                repeats_no_refused_call(&python, "tests/clients/grpc_retry.py")
            },
        ),
        (
            "grpc_js_repeats_no_refused_call",
            vec![Need::program("node"), grpc_js],
            |_| repeats_no_refused_call("node".as_ref(), "tests/clients/grpc_retry.mjs"),
        ),
        ("the_server_stops", vec![], the_server_stops),
    ];
    clients
        .into_iter()
        .map(|(name, needs, test)| {
            let server = Arc::clone(&server);
            trial(name, &needs, move || test(&server.0))
        })
        .collect()
}

/// The client exits with 1 if it is refused.
fn the_example(server: &Form) -> Result<(), Failed> {
    let client = |size| {
        let mut client = Command::new(program());
        let addr = server.addr().to_string();
        client.args(["--client", "--addr", &addr, "--size", size]);
        client
    };
    for _ in 0..tries() {
        let out = client(LARGE).output()?;
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(said.contains("ResourceExhausted: "), "{said}");
        assert!(said.contains(LIMIT), "{said}");
    }
    assert_eq!(succeed(&mut client(SMALL))?, format!("{SMALL} bytes\n"));
    Ok(())
}

fn grpcio(server: &Form) -> Result<(), Failed> {
    let mut client = Command::new(interpreter("grpc").expect("the trial needs it"));
    client.arg(repository("tests/clients/grpc_upload.py"));
    client.arg(server.addr().to_string());
    client.args(vec![LARGE; tries()]).arg(SMALL);
    let said = succeed(&mut client)?;
    let lines: Vec<_> = said.lines().collect();
    let (last, refused) = lines.split_last().expect("it says something");
    assert_eq!((refused.len(), *last), (tries(), SMALL), "{said}");
    for line in refused {
        assert!(line.starts_with("RESOURCE_EXHAUSTED "), "{said}");
        assert!(line.contains(LIMIT), "{said}");
    }
    Ok(())
}

/// The client has a policy that repeats a refused call, up to three attempts. It makes all of them
/// if the response does not forbid it.
fn repeats_no_refused_call(program: &Path, script: &str) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut attempts_seen = Vec::new();
    for strips in [false, true] {
        let attempts = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&attempts);
        let app = Router::new()
            .fallback(|_: Bytes| async {})
            .layer(BodyGuardLayer::axum(1000))
            .layer(map_response(move |mut response: Response| {
                count.fetch_add(1, Ordering::SeqCst);
                if strips {
                    response.headers_mut().remove("grpc-retry-pushback-ms");
                }
                std::future::ready(response)
            }));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let addr = listener.local_addr()?.to_string();
        let server = runtime.spawn(async { tower_bodyguard::axum::serve(listener, app).await });
        let said = succeed(Command::new(program).arg(repository(script)).arg(addr))?;
        server.abort();
        assert_eq!(said.trim_end(), "RESOURCE_EXHAUSTED");
        attempts_seen.push(attempts.load(Ordering::SeqCst));
    }
    assert_eq!(
        attempts_seen,
        [1, 3],
        "with grpc-retry-pushback-ms, and without it"
    );
    Ok(())
}

/// The server stops in good order, even though a client stays connected.
fn the_server_stops(_: &Form) -> Result<(), Failed> {
    let server = Form::start_by(Command::new(program()), "127.0.0.1:0", &[]);
    let runtime = tokio::runtime::Runtime::new()?;
    let channel = tonic::transport::Endpoint::from_shared(server.url.clone())?;
    let _idle = runtime.block_on(channel.connect())?;
    server.send_sigterm();
    assert!(server.end().success());
    Ok(())
}

/// Returns the example's executable, which is beside the form's.
fn program() -> PathBuf {
    let program = Form::program().with_file_name("grpc_upload");
    assert!(
        program.exists(),
        "{} is missing: `cargo build --example grpc_upload --features tonic`",
        program.display()
    );
    program
}

fn tries() -> usize {
    env::var("TRIES").map_or(5, |tries| tries.parse().expect("a number"))
}
