//! Limits of the process: how many connections linger, which one is evicted, and what an observer
//! sees.
#![cfg(feature = "axum")]

use std::{
    io::{Read, Write},
    mem::take,
    net::TcpStream,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::post};
use testkit::{
    Framing, LARGE, MIB, SendFirst,
    client::{connect, read_head, read_response},
};
use tower_bodyguard::{
    BodyGuardLayer, Counters, Event, Linger, LingerConfig, Observer, StopReason as How,
    limit::RefusalKind,
};
use tower_http::timeout::{RequestBodyDeadlineLayer, RequestBodyTimeoutLayer};

use crate::server::{Server, guarded};

fn served(linger: Linger, app: Router) -> Server {
    Server::run_with(linger, |listener, linger| async move {
        tower_bodyguard::axum::serve(listener, app)
            .with_linger(&linger)
            .await
            .unwrap();
    })
}

fn early() -> Router {
    Router::new().route("/", post(|| async { StatusCode::UNAUTHORIZED }))
}

/// Returns the client of a refused upload that sends no body byte and stays silent.
fn refused(server: &Server) -> TcpStream {
    let mut socket = connect(server.addr);
    let upload = SendFirst::post("/", Framing::ContentLength, LARGE);
    socket.write_all(upload.head().as_bytes()).unwrap();
    assert!(read_head(&mut socket).starts_with("HTTP/1.1 401 "));
    socket
}

fn until_started(server: &Server, connections: u64) {
    while server.linger.stats().started < connections {
        thread::yield_now();
    }
}

#[test]
fn the_longest_silent_is_evicted() {
    let counters = Counters::default();
    let linger = Linger::new(
        LingerConfig::new()
            .max_connections(2)
            .observer(counters.observer()),
    );
    let server = served(linger, early());
    let mut sockets: Vec<_> = (1..=3)
        .map(|count| {
            let socket = refused(&server);
            until_started(&server, count);
            socket
        })
        .collect();
    while counters.snapshot().lingers.with_reason(How::Evicted) == 0 {
        thread::yield_now();
    }
    assert_eq!(server.linger.stats().lingering(), 2);
    // The first connection is closed, and the others are not.
    while sockets[0].write(&[0]).is_ok() {
        thread::yield_now();
    }
    for socket in &mut sockets[1..] {
        socket.write_all(&vec![0; MIB as usize]).unwrap();
    }
    drop(sockets);
    // The observer is notified of an end after the counters.
    while counters.snapshot().lingers.with_reason(How::Completed) < 2 {
        thread::yield_now();
    }
    assert_eq!(counters.snapshot().lingers.by_reason().count(), 8);
}

#[test]
fn with_no_place_there_is_no_linger() {
    let server = served(Linger::new(LingerConfig::new().max_connections(0)), early());
    let outcome = SendFirst::post("/", Framing::ContentLength, LARGE).to(server.addr);
    assert!(outcome.was_reset(), "{outcome:?}");
}

/// Returns an observer that records each event in one word.
fn told(words: &Arc<Mutex<Vec<String>>>) -> Observer {
    let words = Arc::clone(words);
    Observer::new(move |event: &Event<'_>| {
        let word = match event {
            Event::Refused(refusal) => format!("refused {}", refusal.status().as_u16()),
            Event::Drained(drained) => format!("drained {} {:?}", drained.bytes, drained.reason),
            Event::Lingered(lingered) => format!("lingered {:?}", lingered.reason),
            _ => "another".to_owned(),
        };
        words.lock().unwrap().push(word);
    })
}

#[test]
fn one_observer_is_told_of_all() {
    let words = Arc::default();
    let app = guarded(4 * MIB);
    let app = app.layer(BodyGuardLayer::new(5 * MIB).observer(told(&words)));
    let server = served(Linger::new(LingerConfig::new().observer(told(&words))), app);
    // One upload exceeds the outer limit. The other exceeds the inner one, which has no observer.
    for length in [LARGE, 5 * MIB] {
        let upload = SendFirst::post("/", Framing::ContentLength, length);
        upload.to(server.addr).assert_delivered(413);
    }
    // This body is drained and the connection kept.
    let mut socket = connect(server.addr);
    let upload = SendFirst::post("/nowhere", Framing::ContentLength, 1000);
    upload.write(&mut socket).unwrap();
    assert_eq!(read_response(&mut socket).unwrap().status, 404);
    let expected = [
        "refused 413",
        "lingered Completed",
        "lingered Completed",
        "drained 1000 Completed",
    ];
    while words.lock().unwrap().len() < expected.len() {
        thread::yield_now();
    }
    let mut words = words.lock().unwrap();
    words.sort();
    let mut expected = expected;
    expected.sort_unstable();
    assert_eq!(*words, expected);
}

#[test]
fn observer_that_panics_does_no_harm() {
    let observer = || Observer::new(|_| panic!("deliberate failure"));
    let app = guarded(4 * MIB);
    let app = app.layer(BodyGuardLayer::new(4 * MIB).observer(observer()));
    let server = served(Linger::new(LingerConfig::new().observer(observer())), app);
    for _ in 0..3 {
        SendFirst::post("/", Framing::ContentLength, LARGE)
            .to(server.addr)
            .assert_delivered(413);
    }
}

/// The client sends ten bytes and then nothing. It gets 408, delivered like any other early
/// response.
#[test]
fn a_slow_upload_is_refused() {
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let observer = Observer::new({
        let kinds = Arc::clone(&kinds);
        move |event: &Event<'_>| {
            if let Event::Refused(refusal) = event {
                kinds.lock().unwrap().push(refusal.kind());
            }
        }
    });
    const BRIEF: Duration = Duration::from_millis(100);
    // The second limit is practically none, so that only the time counts.
    type Set = fn(BodyGuardLayer) -> BodyGuardLayer;
    let ways: [(Set, RefusalKind, &str); 3] = [
        (
            |guard| guard.min_rate(1000, BRIEF),
            RefusalKind::TooSlow { rate: 1000 },
            "1000 bytes per second",
        ),
        (
            |guard| guard.idle_timeout(BRIEF),
            RefusalKind::IdleTimeout { timeout: BRIEF },
            "0.1 s",
        ),
        (
            |guard| guard.deadline(BRIEF),
            RefusalKind::DeadlineExceeded { deadline: BRIEF },
            "0.1 s",
        ),
    ];
    for (set, kind, text) in ways {
        for (path, limit) in [("/", LARGE), ("/bytes", u64::MAX)] {
            let guard = set(BodyGuardLayer::new(limit)).observer(observer.clone());
            let server = served(Linger::default(), crate::server::counting().layer(guard));
            let mut socket = connect(server.addr);
            let upload = SendFirst::post(path, Framing::ContentLength, LARGE);
            socket.write_all(upload.head().as_bytes()).unwrap();
            socket.write_all(&[0; 10]).unwrap();
            let response = read_response(&mut socket).unwrap();
            assert_eq!(response.status, 408);
            assert_eq!(response.header("connection"), Some("close"));
            assert!(response.body.contains(text), "{}", response.body);
            // The client wakes up and sends the remaining body.
            socket.write_all(&vec![0; 16 << 20]).unwrap();
            assert_eq!(socket.read(&mut [0]).unwrap(), 0);
        }
        assert_eq!(take(&mut *kinds.lock().unwrap()), [kind; 2]);
    }
}

/// With tower-http's body timeouts, the handler decides the response to the error. That response
/// arrives.
#[test]
fn other_ways_to_be_too_slow_are_observed_as_well() {
    const BRIEF: Duration = Duration::from_millis(100);
    let app = || crate::server::counting().layer(BodyGuardLayer::new(LARGE));
    let apps = [
        app().layer(RequestBodyTimeoutLayer::new(BRIEF)),
        app().layer(RequestBodyDeadlineLayer::new(BRIEF)),
    ];
    for app in apps {
        let server = served(Linger::default(), app);
        let mut socket = connect(server.addr);
        let upload = SendFirst::post("/bytes", Framing::ContentLength, LARGE);
        socket.write_all(upload.head().as_bytes()).unwrap();
        socket.write_all(&[0; 10]).unwrap();
        let response = read_response(&mut socket).unwrap();
        assert_eq!(response.status, 400, "{}", response.body);
        assert_eq!(response.header("connection"), Some("close"));
        socket.write_all(&vec![0; 16 << 20]).unwrap();
        assert_eq!(socket.read(&mut [0]).unwrap(), 0);
    }
}

/// At full speed an upload is fast enough for any rate.
#[test]
fn a_fast_upload_is_not() {
    let guard = BodyGuardLayer::new(LARGE).min_rate(1000, Duration::from_millis(100));
    let server = served(Linger::default(), crate::server::counting().layer(guard));
    let upload = SendFirst::post("/", Framing::Chunked, 16 * MIB).header("Connection: close");
    let outcome = upload.to(server.addr);
    assert_eq!(outcome.assert_delivered(200).body, (16 * MIB).to_string());
}
