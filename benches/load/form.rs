//! A release build of the upload form as a process, and measurements of it from outside.

use std::{
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use testkit::process;
use tokio::time::sleep;

use super::honest::exchange;

pub(crate) const LIMIT: usize = 4 << 20;

pub(crate) struct Form {
    process: Child,
    pub(crate) addr: SocketAddr,
}

impl Form {
    pub(crate) fn start<'a>(flags: impl IntoIterator<Item = &'a str>) -> Self {
        let own = env::current_exe().expect("a running program has a path");
        let target = own.ancestors().nth(2).expect("target/release/deps/bench");
        let form: PathBuf = target.join("examples/upload_form");
        let mut process = Command::new(&form)
            .args(["--addr", "127.0.0.1:0", "--limit", &LIMIT.to_string()])
            .args(flags)
            .env("RUST_LOG", "error")
            .env_remove("UPLOAD_TOKEN")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; build it first", form.display()));
        let stdout = process.stdout.take().expect("it is piped");
        let line = BufReader::new(stdout).lines().next();
        let line = line.expect("it says where it listens").expect("in text");
        let addr = line.trim_start_matches("listening on http://");
        Self {
            process,
            addr: addr.parse().expect("an address"),
        }
    }

    /// Returns the resident memory, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        process::memory(self.process.id()).unwrap_or(0)
    }

    pub(crate) fn descriptors(&self) -> u64 {
        process::descriptors(self.process.id()).map_or(0, |count| count as u64)
    }

    /// Returns user and system time, in hundredths of a second.
    pub(crate) fn cpu(&self) -> u64 {
        process::cpu(self.process.id()).unwrap_or(0)
    }

    /// Returns the metrics that it reports, or `None` if it does not respond.
    pub(crate) async fn gauges(&self) -> Option<Gauges> {
        let ask = b"GET /metrics HTTP/1.1\r\nHost: form\r\nConnection: close\r\n\r\n";
        let (response, _) = exchange(self.addr, ask).await?;
        let figure = |name: &str| {
            let line = response.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        Some(Gauges {
            lingering: figure("bodyguard_lingering{linger=\"form\"} ")?,
            reading: figure("bodyguard_draining{linger=\"form\"} ")?,
        })
    }

    /// Waits until nothing lingers and nothing is drained.
    pub(crate) async fn until_at_rest(&self) {
        while !self.gauges().await.is_some_and(Gauges::are_zero) {
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Form {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Gauges {
    pub(crate) lingering: u64,
    pub(crate) reading: u64,
}

impl Gauges {
    pub(crate) fn are_zero(self) -> bool {
        (self.lingering, self.reading) == (0, 0)
    }
}

/// Raises the limit of file descriptors as far as possible, for this process and the form's.
#[cfg(unix)]
pub(crate) fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("cannot raise the limit of file descriptors: {error}");
    }
}

/// Windows has no such limit.
#[cfg(not(unix))]
pub(crate) fn raise_descriptors() {}
