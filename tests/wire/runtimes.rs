//! Unusual runtimes: one thread, tasks that never leave their thread, and no runtime at all.
#![cfg(feature = "axum")]

use std::{future::Future, net::SocketAddr, sync::mpsc, thread};

use axum::{Router, http::StatusCode, routing::post};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use testkit::{
    LARGE, SendFirst,
    client::{FRAMINGS, PATIENCE},
};
use tokio::{
    net::TcpListener,
    runtime::Builder,
    task::{LocalSet, spawn_local},
};
use tower_bodyguard::Linger;

fn app() -> Router {
    let long = || async { (StatusCode::FORBIDDEN, "n".repeat(4 << 20)) };
    Router::new()
        .route("/", post(|| async { StatusCode::UNAUTHORIZED }))
        .route("/long", post(long))
}

/// Runs `serve` on its own thread until the clients have their responses. Then the runtime ends.
fn on_one_thread<F>(serve: impl FnOnce(TcpListener, Linger) -> F + Send + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let linger = Linger::default();
    let (tell, told) = mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = thread::spawn({
        let linger = linger.clone();
        move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = serve(listener, linger) => {}
                    _ = stopped => {}
                }
            });
        }
    });
    let addr: SocketAddr = told.recv_timeout(PATIENCE).unwrap();
    for framing in FRAMINGS {
        SendFirst::post("/", framing, LARGE)
            .to(addr)
            .assert_delivered(401);
        SendFirst::post("/long", framing, LARGE)
            .to(addr)
            .assert_delivered(403);
    }
    stop.send(()).unwrap();
    server.join().expect("no panic at the end");
    assert_eq!(linger.stats().lingering(), 0);
}

#[test]
fn a_current_thread() {
    on_one_thread(|listener, linger| async move {
        tower_bodyguard::axum::serve(listener, app())
            .with_linger(&linger)
            .await
            .unwrap();
    });
}

#[test]
fn a_local_set() {
    on_one_thread(|listener, linger| async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (io, service) = linger.wrap(socket, app());
            let service = TowerToHyperService::new(service);
            let connection = http1::Builder::new().serve_connection(TokioIo::new(io), service);
            spawn_local(async move {
                // The client asserts how the connection ended.
                let _ = connection.await;
            });
        }
    });
}

/// A runtime without timers cannot linger. The panic comes when the server starts, and not with the
/// first refused upload.
#[test]
fn runtime_without_timers_panics_at_start() {
    let runtime = Builder::new_current_thread().enable_io().build().unwrap();
    let _context = runtime.enter();
    let listener = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        TcpListener::from_std(listener).unwrap()
    };
    let panics = |start: &dyn Fn()| {
        let started = std::panic::catch_unwind(std::panic::AssertUnwindSafe(start));
        let panic = started.expect_err("it panics");
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or(panic.downcast_ref::<&str>().copied()).unwrap();
        assert!(words.contains("enable_time"), "{words}");
    };
    panics(&|| drop(tower_bodyguard::axum::serve(listener(), app())));
    panics(&|| drop(Linger::default().wrap(tokio::io::empty(), app())));
}
