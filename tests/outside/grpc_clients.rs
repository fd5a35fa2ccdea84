//! gRPC clients against the example `grpc_upload`, both as executables. Each reads
//! `RESOURCE_EXHAUSTED` and the reason, in each of several calls of 20 MB (`TRIES`, 5 if not set).
//! Then the server counts a smaller call. grpcio makes all its calls over one connection.

use std::{
    env,
    path::PathBuf,
    process::Command,
    sync::{Arc, LazyLock},
};

use libtest_mimic::Failed;

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
    let clients: [(&str, Vec<Need>, Test); 3] = [
        ("the_example", vec![], the_example),
        ("grpcio", vec![Need::python("grpc")], grpcio),
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
