//! A server that buffers bodies, in a process that may have only so much memory, and more uploads
//! at a time than fit. Without a budget the process ends. With one it serves the uploads that fit,
//! and refuses the others with a response that arrives.
//!
//! `UPLOADS=1000` makes more uploads than the default.

use std::{env, net::SocketAddr, os::unix::process::ExitStatusExt, process::Command, sync::Arc};

use axum::{Router, body::Bytes, routing::post};
use libtest_mimic::Failed;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::{
    MIB,
    client::{PATIENCE, Response},
    outside::{Form, Trial, trial},
    process,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::Barrier,
    task::JoinSet,
    time::timeout,
};
use tower_bodyguard::{BodyBudget, BodyGuardLayer, Linger, LingerConfig};

/// This environment variable has the budget in bytes, or `none`.
const ROLE: &str = "MEMORY_BUDGET";

/// The address space that the process may use: less than all uploads take.
const ADDRESS_SPACE: u64 = 700 * MIB;

const BUDGET: u64 = 128 * MIB;

const UPLOAD: u64 = 4 * MIB;

/// The memory that the process may have beside the bodies: for the program itself, for 100 to 200
/// KiB of buffers of each connection, and for the copy that `Bytes` makes of a body.
const BESIDE: u64 = 96 * MIB;

/// Plays the role that this process was started for. Returns whether there is one.
pub(crate) fn plays_a_role() -> bool {
    let Ok(budget) = env::var(ROLE) else {
        return false;
    };
    raise_descriptors();
    let most = Some(ADDRESS_SPACE);
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::As, limit).expect("a process may limit itself");
    let guard = BodyGuardLayer::axum(UPLOAD);
    let guard = match budget.parse() {
        Ok(budget) => guard.budget(&BodyBudget::max_bytes(budget)),
        Err(_) => guard,
    };
    let app = Router::new()
        .route(
            "/",
            post(|body: Bytes| async move { body.len().to_string() }),
        )
        .layer(guard);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("it is bound");
        println!("listening on http://{addr}");
        // Refused clients are silent until all others have sent their part.
        let config = LingerConfig::new()
            .idle_timeout(PATIENCE)
            .timeout(PATIENCE)
            .max_connections(4096);
        tower_bodyguard::axum::serve(listener, app)
            .with_linger(&Linger::new(config))
            .await
            .expect("it accepts");
    });
    true
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("with_a_budget_all_uploads_get_a_response", &[], with_budget),
        trial("without_a_budget_the_process_ends", &[], without_budget),
    ]
}

fn with_budget() -> Result<(), Failed> {
    let server = start(&BUDGET.to_string());
    let pid = server.id();
    let addr = server.addr();
    let (statuses, most) = Runtime::new()?.block_on(attack(addr, pid));
    let count = |status| {
        statuses
            .iter()
            .filter(|seen| **seen == Some(status))
            .count()
    };
    let fit = (BUDGET / UPLOAD) as usize;
    assert_eq!((count(200), count(503)), (fit, uploads() - fit));
    assert!(
        most * 1024 <= BUDGET + BESIDE,
        "{most} KiB of resident memory"
    );
    Ok(())
}

fn without_budget() -> Result<(), Failed> {
    let server = start("none");
    let (statuses, _) = Runtime::new()?.block_on(attack(server.addr(), server.id()));
    assert!(statuses.contains(&None), "some get no response");
    assert!(server.end().signal().is_some(), "the process aborts");
    Ok(())
}

/// Sends all uploads at the same time. All of them are one byte short until the last has come that
/// far. Returns the statuses, and the resident memory at that time, in KiB.
async fn attack(addr: SocketAddr, pid: u32) -> (Vec<Option<u16>>, u64) {
    raise_descriptors();
    let barrier = Arc::new(Barrier::new(uploads() + 1));
    let mut clients = JoinSet::new();
    for _ in 0..uploads() {
        let barrier = Arc::clone(&barrier);
        clients.spawn(async move { timeout(4 * PATIENCE, upload(addr, &barrier)).await });
    }
    barrier.wait().await;
    let most = process::memory(pid).unwrap_or_default();
    barrier.wait().await;
    let mut statuses = Vec::new();
    while let Some(client) = clients.join_next().await {
        statuses.push(client.expect("no panic").expect("in time"));
    }
    (statuses, most)
}

/// Sends everything before it reads, and waits for the others before the last byte. Returns the
/// status, or `None` if the whole body could not be sent, or no response arrived.
async fn upload(addr: SocketAddr, barrier: &Barrier) -> Option<u16> {
    let mut socket = TcpStream::connect(addr).await.ok();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {UPLOAD}\r\n\r\n"
    );
    let mut sent = async {
        let socket = socket.as_mut()?;
        socket.write_all(head.as_bytes()).await.ok()?;
        let body = vec![0; UPLOAD as usize - 1];
        socket.write_all(&body).await.ok()
    }
    .await;
    barrier.wait().await;
    barrier.wait().await;
    let socket = socket.as_mut()?;
    sent = sent.and(socket.write_all(&[0]).await.ok());
    sent?;
    let mut received = Vec::new();
    socket.read_to_end(&mut received).await.ok()?;
    Some(Response::parse(&received)?.0.status)
}

fn start(budget: &str) -> Form {
    let mut command = Command::new(env::current_exe().expect("a running test has a path"));
    command.env(ROLE, budget);
    // Each arena of the allocator takes 64 MiB of address space.
    command.env("MALLOC_ARENA_MAX", "1");
    Form::start_by(command, "127.0.0.1:0", &[])
}

fn uploads() -> usize {
    env::var("UPLOADS").map_or(250, |uploads| uploads.parse().expect("a number"))
}

/// Each upload has a descriptor at either side.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the maximum is allowed");
}
