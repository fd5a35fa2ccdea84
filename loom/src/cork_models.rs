use std::{future::poll_fn, sync::Arc, time::Instant};

use loom::{
    future::block_on,
    model,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use crate::shared::connection::{Connection, Corked};

/// What holders do, each in its turn: without the cork's order, one would miss what the
/// other did.
#[derive(Default)]
struct Answers {
    connection: Arc<Connection>,
    queued: AtomicUsize,
}

impl Answers {
    fn queue(&self, _corked: Corked) {
        self.queued.store(self.queued() + 1, Relaxed);
    }

    fn queued(&self) -> usize {
        self.queued.load(Relaxed)
    }

    /// Whether it got to hold the cork.
    fn queue_corked(&self) -> bool {
        let corked = Corked::hold(&self.connection, Instant::now());
        corked.map(|corked| self.queue(corked)).is_some()
    }

    fn until_free(&self) {
        block_on(poll_fn(|cx| self.connection.cork().poll_free(cx)));
    }
}

#[test]
fn who_waits_to_write_is_told_and_sees_the_answer() {
    model(|| {
        let answers = Arc::new(Answers::default());
        let corked = Corked::hold(&answers.connection, Instant::now()).unwrap();
        let stream = thread::spawn({
            let answers = Arc::clone(&answers);
            move || answers.queue(corked)
        });
        answers.until_free();
        assert_eq!(answers.queued(), 1);
        stream.join().unwrap();
        assert!(answers.queue_corked() && !answers.queue_corked());
    });
}

#[test]
fn without_a_write_one_holds_it_in_all() {
    model(|| {
        let answers = Arc::new(Answers::default());
        let streams = [(); 2].map(|()| {
            let answers = Arc::clone(&answers);
            thread::spawn(move || answers.queue_corked())
        });
        let held = streams.map(|stream| stream.join().unwrap());
        assert_ne!(held[0], held[1]);
        assert_eq!(answers.queued(), 1);
    });
}

/// One holds it, another would like to, and the connection would like to write.
#[test]
fn a_write_lets_one_more_hold_it() {
    model(|| {
        let answers = Arc::new(Answers::default());
        let corked = Corked::hold(&answers.connection, Instant::now()).unwrap();
        let first = thread::spawn({
            let answers = Arc::clone(&answers);
            move || answers.queue(corked)
        });
        let second = thread::spawn({
            let answers = Arc::clone(&answers);
            move || answers.queue_corked()
        });
        answers.until_free();
        assert_ne!(answers.queued(), 0);
        first.join().unwrap();
        let held = second.join().unwrap();
        assert_eq!(answers.queued(), 1 + usize::from(held));
    });
}
