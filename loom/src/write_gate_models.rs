use std::{future::poll_fn, sync::Arc, time::Instant};

use loom::{
    future::block_on,
    model,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use crate::shared::connection::{Connection, WriteHold};

/// The holders' work, done one at a time. Without the gate's ordering, one would miss the work of
/// another.
#[derive(Default)]
struct Answers {
    connection: Arc<Connection>,
    queued: AtomicUsize,
}

impl Answers {
    fn queue(&self, _hold: WriteHold) {
        self.queued.store(self.queued() + 1, Relaxed);
    }

    fn queued(&self) -> usize {
        self.queued.load(Relaxed)
    }

    /// Tries to hold the gate. Returns whether it did.
    fn queue_held(&self) -> bool {
        let held = WriteHold::hold(&self.connection, Instant::now());
        held.map(|held| self.queue(held)).is_some()
    }

    fn until_free(&self) {
        block_on(poll_fn(|cx| self.connection.write_gate().poll_free(cx)));
    }
}

#[test]
fn client_that_waits_to_write_sees_the_response() {
    model(|| {
        let answers = Arc::new(Answers::default());
        let held = WriteHold::hold(&answers.connection, Instant::now()).unwrap();
        let stream = thread::spawn({
            let answers = Arc::clone(&answers);
            move || answers.queue(held)
        });
        answers.until_free();
        assert_eq!(answers.queued(), 1);
        stream.join().unwrap();
        assert!(answers.queue_held() && !answers.queue_held());
    });
}

#[test]
fn without_a_write_one_holds_it_in_all() {
    model(|| {
        let answers = Arc::new(Answers::default());
        let streams = [(); 2].map(|()| {
            let answers = Arc::clone(&answers);
            thread::spawn(move || answers.queue_held())
        });
        let held = streams.map(|stream| stream.join().unwrap());
        assert_ne!(held[0], held[1]);
        assert_eq!(answers.queued(), 1);
    });
}

/// One task holds the gate, another tries to, and the connection waits to write.
#[test]
fn a_write_lets_one_more_hold_it() {
    model(|| {
        let answers = Arc::new(Answers::default());
        let held = WriteHold::hold(&answers.connection, Instant::now()).unwrap();
        let first = thread::spawn({
            let answers = Arc::clone(&answers);
            move || answers.queue(held)
        });
        let second = thread::spawn({
            let answers = Arc::clone(&answers);
            move || answers.queue_held()
        });
        answers.until_free();
        assert_ne!(answers.queued(), 0);
        first.join().unwrap();
        let held = second.join().unwrap();
        assert_eq!(answers.queued(), 1 + usize::from(held));
    });
}
