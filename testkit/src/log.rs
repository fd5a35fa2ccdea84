//! Captures log output.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use tokio::runtime::Builder;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a future in a runtime of this thread. Returns what was logged until the runtime ended.
pub fn logged(future: impl Future<Output = ()>) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future);
    });
    let log = log.0.lock().unwrap();
    String::from_utf8(log.clone()).unwrap()
}
