use std::{
    future::poll_fn,
    sync::Arc,
    task::{Poll, ready},
};

use loom::{future::block_on, model, thread};

use crate::shared::connection::Connection;

fn with<T: 'static>(
    connection: &Arc<Connection>,
    run: impl FnOnce(&Connection) -> T + 'static,
) -> thread::JoinHandle<T> {
    let connection = Arc::clone(connection);
    thread::spawn(move || run(&connection))
}

#[test]
fn a_drain_is_told_that_a_stall_has_ended() {
    model(|| {
        let connection = Arc::new(Connection::default());
        connection.stall(true);
        let stalls = connection.stalls();
        let socket = with(&connection, |connection| connection.stall(false));
        block_on(poll_fn(|cx| connection.poll_progress(cx, stalls)));
        assert!(!connection.is_stalled());
        socket.join().unwrap();
    });
}

/// The socket takes some bytes, and is full again.
#[test]
fn drain_is_told_of_progress_that_ends_in_a_stall() {
    model(|| {
        let connection = Arc::new(Connection::default());
        connection.stall(true);
        let socket = with(&connection, |connection| {
            connection.stall(false);
            connection.stall(true);
        });
        block_on(poll_fn(|cx| {
            loop {
                let stalls = connection.stalls();
                if stalls == 3 {
                    return Poll::Ready(());
                }
                ready!(connection.poll_progress(cx, stalls));
            }
        }));
        socket.join().unwrap();
    });
}

/// The end of an earlier drain never marks a later request, in whatever order the drains end.
#[test]
fn a_late_end_says_nothing_of_the_next_request() {
    model(|| {
        let connection = Arc::new(Connection::default());
        let first = connection.begin();
        let late = with(&connection, move |connection| connection.finish(first));
        let second = connection.begin();
        assert!(!connection.is_finished());
        let drain = with(&connection, move |connection| connection.finish(second));
        late.join().unwrap();
        drain.join().unwrap();
        assert!(connection.is_finished());
        connection.begin();
        assert!(!connection.is_finished());
    });
}

/// The end of an earlier body does not undo a later request without a body, which has ended.
#[test]
fn a_late_end_does_not_undo_a_request_without_a_body() {
    model(|| {
        let connection = Arc::new(Connection::default());
        let first = connection.begin();
        let late = with(&connection, move |connection| connection.finish(first));
        connection.begin_bodiless();
        assert!(connection.is_finished());
        late.join().unwrap();
        assert!(connection.is_finished());
        connection.begin();
        assert!(!connection.is_finished());
    });
}

/// The connection itself asserts this in `is_finished`.
#[test]
fn end_is_not_seen_before_its_beginning() {
    model(|| {
        let connection = Arc::new(Connection::default());
        let server = with(&connection, |connection| {
            connection.finish(connection.begin());
            connection.finish(connection.begin());
        });
        connection.is_finished();
        server.join().unwrap();
        assert!(connection.is_finished());
    });
}

#[test]
fn a_late_cut_is_not_the_next_requests() {
    model(|| {
        let connection = Arc::new(Connection::default());
        let first = connection.begin();
        let late = with(&connection, move |connection| connection.cut(first));
        let second = connection.begin();
        assert!(!connection.is_cut());
        let drain = with(&connection, move |connection| connection.cut(second));
        late.join().unwrap();
        drain.join().unwrap();
        assert!(connection.is_cut());
        connection.begin();
        assert!(!connection.is_cut());
    });
}
