//! The upload form under attack: thousands of refused clients that are silent, that send
//! for ever, or that drip, while honest ones upload.
//!
//! ```text
//! cargo build --release --all-features --example upload_form
//! cargo bench --bench storm -- --silent 10000 --flood 1000 --drip 1000
//! ```
//!
//! It prints what the honest saw, the form's memory, the kernel's, and what was lingering,
//! second by second, and at the end whether all of that was given back. Both processes need
//! as many descriptors as there are clients.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::{interval, sleep, timeout},
};

#[derive(Parser)]
struct Flags {
    /// Clients that are refused, and then silent
    #[arg(long, default_value_t = 1000)]
    silent: usize,
    /// Clients that are refused, and go on sending as fast as they can
    #[arg(long, default_value_t = 100)]
    flood: usize,
    /// Clients that are refused, and go on sending a byte every two seconds
    #[arg(long, default_value_t = 100)]
    drip: usize,
    /// How long the attack lasts
    #[arg(long, default_value = "20s")]
    lasts: humantime::Duration,
    /// Flags for the form, in one string
    #[arg(long, default_value = "")]
    form: String,
    /// What cargo says
    #[arg(long, hide = true)]
    bench: bool,
}

struct Form {
    process: Child,
    addr: SocketAddr,
}

impl Form {
    fn start(flags: &str) -> Self {
        let own = std::env::current_exe().expect("a running program has a path");
        let target = own.ancestors().nth(2).expect("target/release/deps/storm");
        let form: PathBuf = target.join("examples/upload_form");
        let mut process = Command::new(&form)
            .args(["--addr", "127.0.0.1:0", "--limit", "4MiB"])
            .args(flags.split_whitespace())
            .env("RUST_LOG", "warn")
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

    /// Resident memory, in KiB.
    fn memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.id());
        let status = fs::read_to_string(status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.unwrap_or(0)
    }

    fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.process.id());
        fs::read_dir(folder).map_or(0, Iterator::count)
    }

    /// Of user and system, in hundredths of a second.
    fn cpu(&self) -> u64 {
        let stat = format!("/proc/{}/stat", self.process.id());
        let stat = fs::read_to_string(stat).unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2);
        ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
    }
}

impl Drop for Form {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the kernel holds for TCP, in KiB.
fn kernel() -> u64 {
    let sockets = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = sockets.lines().find(|line| line.starts_with("TCP:"));
    let pages = line.and_then(|line| line.split_whitespace().last()?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4
}

#[derive(Clone, Copy)]
enum Attack {
    Silent,
    Flood,
    Drip,
}

async fn attack(addr: SocketAddr, attack: Attack) -> std::io::Result<()> {
    let mut socket = TcpStream::connect(addr).await?;
    let head = "POST /raw HTTP/1.1\r\nHost: form\r\nContent-Length: 1000000000000\r\n\r\n";
    socket.write_all(head.as_bytes()).await?;
    match attack {
        Attack::Silent => {
            let mut answer = [0; 4096];
            while socket.read(&mut answer).await? > 0 {}
            sleep(Duration::from_secs(3600)).await;
        }
        Attack::Flood => {
            let zeros = vec![0; 64 * 1024];
            loop {
                socket.write_all(&zeros).await?;
            }
        }
        Attack::Drip => loop {
            socket.write_all(b".").await?;
            sleep(Duration::from_secs(2)).await;
        },
    }
    Ok(())
}

/// One after the other, for as long as it is let; a connection lost is made anew.
async fn keep_at_it(addr: SocketAddr, kind: Attack, at_once: Arc<Semaphore>) {
    loop {
        let begin = at_once.acquire().await;
        let attacking = attack(addr, kind);
        drop(begin);
        let _ = attacking.await;
        sleep(Duration::from_millis(100)).await;
    }
}

async fn exchange(addr: SocketAddr, request: &[u8]) -> Option<(String, Duration)> {
    let start = Instant::now();
    let answer = async {
        let mut socket = TcpStream::connect(addr).await?;
        socket.write_all(request).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(Duration::from_secs(30), answer).await;
    Some((answer.ok()?.ok()?, start.elapsed()))
}

fn upload(length: usize) -> Vec<u8> {
    let head = "POST /raw HTTP/1.1\r\nHost: form\r\nConnection: close\r\n";
    let mut request = format!("{head}Content-Length: {length}\r\n\r\n").into_bytes();
    request.resize(request.len() + length, 0);
    request
}

/// How the honest fared.
#[derive(Default)]
struct Honest {
    pages: Vec<Duration>,
    stored: usize,
    refused: usize,
    lost: usize,
}

async fn be_honest(addr: SocketAddr, until: Instant) -> Honest {
    let page = b"GET / HTTP/1.1\r\nHost: form\r\nConnection: close\r\n\r\n";
    let (within, over) = (upload(3 << 20), upload(20_000_000));
    let mut honest = Honest::default();
    while Instant::now() < until {
        for (request, status) in [(&page[..], "200"), (&within, "200"), (&over, "413")] {
            let status = format!("HTTP/1.1 {status} ");
            match exchange(addr, request).await {
                Some((answer, took)) if answer.starts_with(&status) => match request.len() {
                    length if length < 1000 => honest.pages.push(took),
                    length if length < 4 << 20 => honest.stored += 1,
                    _ => honest.refused += 1,
                },
                _ => honest.lost += 1,
            }
        }
    }
    honest
}

async fn figure(addr: SocketAddr, name: &str) -> Option<u64> {
    let ask = b"GET /metrics HTTP/1.1\r\nHost: form\r\nConnection: close\r\n\r\n";
    let (answer, _) = exchange(addr, ask).await?;
    let line = answer.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

#[tokio::main]
async fn main() {
    let flags = Flags::parse();
    let form = Form::start(&flags.form);
    let addr = form.addr;
    let begun = Instant::now();
    println!(
        "at rest: {} KiB, {} descriptors",
        form.memory(),
        form.descriptors()
    );

    // Not all in one breath, for the backlog's sake.
    let at_once = Arc::new(Semaphore::new(64));
    let kinds = [
        (Attack::Silent, flags.silent),
        (Attack::Flood, flags.flood),
        (Attack::Drip, flags.drip),
    ];
    let attackers: Vec<_> = kinds
        .into_iter()
        .flat_map(|(kind, count)| std::iter::repeat_n(kind, count))
        .map(|kind| tokio::spawn(keep_at_it(addr, kind, Arc::clone(&at_once))))
        .collect();
    let honest = tokio::spawn(be_honest(addr, begun + *flags.lasts));
    let mut seconds = interval(Duration::from_secs(1));
    println!(
        "| s | lingering | form KiB | kernel KiB | descriptors |\n| --- | --- | --- | --- | --- |"
    );
    while begun.elapsed() < *flags.lasts {
        seconds.tick().await;
        let lingering = figure(addr, "bodyguard_lingering ").await;
        let lingering = lingering.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let seconds = begun.elapsed().as_secs();
        let (form_memory, descriptors) = (form.memory(), form.descriptors());
        println!(
            "| {seconds} | {lingering} | {form_memory} | {} | {descriptors} |",
            kernel()
        );
    }
    let mut honest = honest.await.expect("it does not panic");
    attackers.iter().for_each(tokio::task::JoinHandle::abort);
    honest.pages.sort();
    let percentile = |of: usize| honest.pages.get(honest.pages.len() * of / 100);
    println!(
        "honest: {} pages (median {:?}, p99 {:?}), {} stored, {} refused and told, {} lost",
        honest.pages.len(),
        percentile(50),
        percentile(99),
        honest.stored,
        honest.refused,
        honest.lost,
    );
    for attacker in attackers {
        let _ = attacker.await;
    }

    let over = Instant::now();
    while figure(addr, "bodyguard_lingering ").await != Some(0) {
        sleep(Duration::from_millis(100)).await;
    }
    println!("all given back after {:?}", over.elapsed());
    let before = form.cpu();
    sleep(Duration::from_secs(5)).await;
    println!(
        "then: {} KiB, {} KiB in the kernel, {} descriptors, {} ms of CPU in 5 s",
        form.memory(),
        kernel(),
        form.descriptors(),
        (form.cpu() - before) * 10,
    );
}
