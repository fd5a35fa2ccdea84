//! Attacks the upload form. Thousands of refused clients stay silent, send without end, or drip. At
//! the same time, honest clients upload and read pages.
//!
//! ```text
//! cargo build --release --all-features --example upload_form
//! cargo bench --bench storm -- --silent 10000 --flood 1000 --drip 1000
//! cargo bench --bench storm -- --lasts 120s --form '--min-rate 240' \
//!     --attacker 'slowhttptest -B -c 1000 -r 200 -i 10 -s 1000000 -x 10 -l 120 -u URL/raw'
//! ```
//!
//! Each second it prints the form's memory, the kernel's memory, and the number of lingering
//! connections. At the end it prints the results of the honest clients. It prints the maxima beside
//! the limits that the settings imply, and whether all resources were released while the attackers
//! were still connected. It fails if one of these does not hold. If the hard limit of file
//! descriptors is below the number of clients, raise that limit first.

mod load {
    pub(crate) mod attack;
    pub(crate) mod form;
    pub(crate) mod honest;
    pub(crate) mod kernel;
}

use std::{
    process::{ExitCode, Stdio},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use clap::Parser;
use tokio::{
    process::{Child, Command},
    time::{interval, sleep, timeout},
};

use load::{
    attack::{AT_ONCE, Attack, Attackers},
    form::{Form, raise_descriptors},
    honest::Honest,
    kernel,
};

/// The memory of a connection in KiB: hyper's read and write buffers of 8 each, hyper's task, and
/// the linger task. The allocator keeps the buffers when hyper drops the connection.
const A_CONNECTION: u64 = 24;

/// The memory of the honest clients: an upload uses hyper's largest buffer, 400 KiB, and the
/// runtime's threads have their own arenas.
const THE_HONEST: u64 = 16 * 1024;

/// How far the gauge may be off. Its figures are read one after the other, and connections come and
/// go between these reads.
const BEGINNING: u64 = AT_ONCE as u64;

/// The time limit for releasing all resources: `LingerConfig::timeout`, and some time to notice it.
const GIVEN_BACK: Duration = Duration::from_secs(35);

#[derive(Parser)]
struct Flags {
    /// Clients that are refused and then stay silent [default: 1000, or 0 with --attacker]
    #[arg(long)]
    silent: Option<usize>,
    /// Clients that are refused and keep sending as fast as they can [default: 100, or 0]
    #[arg(long)]
    flood: Option<usize>,
    /// Clients that are refused and keep sending a byte every two seconds [default: 100, or 0]
    #[arg(long)]
    drip: Option<usize>,
    /// A program that attacks; URL in it is replaced by the form's
    #[arg(long)]
    attacker: Option<String>,
    /// How long the attack lasts
    #[arg(long, default_value = "20s")]
    lasts: humantime::Duration,
    /// How many connections may linger
    #[arg(long, default_value_t = 1024)]
    at_once: u64,
    /// Flags for the form, in one string
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    form: String,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// The maximum of each figure.
#[derive(Default)]
struct Most {
    lingering: u64,
    served: u64,
    memory: u64,
    kernel: u64,
    descriptors: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    raise_descriptors();
    let at_once = flags.at_once.to_string();
    let words = ["--linger-max", &at_once].into_iter();
    let form = Form::start(words.chain(flags.form.split_whitespace()));
    let addr = form.addr;
    form.until_at_rest().await;
    // The connection of the last request is still closing.
    sleep(Duration::from_secs(1)).await;
    let (memory, descriptors) = (form.memory(), form.descriptors());
    println!("at rest: {memory} KiB, {descriptors} descriptors");

    let mut attackers = Attackers::new(addr);
    let own = |count: Option<usize>, usual| match flags.attacker {
        Some(_) => count.unwrap_or(0),
        None => count.unwrap_or(usual),
    };
    attackers.add(Attack::Silent, own(flags.silent, 1000));
    attackers.add(Attack::Flood, own(flags.flood, 100));
    attackers.add(Attack::Drip, own(flags.drip, 100));
    let outside = flags.attacker.as_deref().map(|words| start(words, &form));

    let honest = Arc::new(Honest::default());
    let working = [
        tokio::spawn(Arc::clone(&honest).read_pages(addr)),
        tokio::spawn(Arc::clone(&honest).upload(addr, 3 << 20, 200)),
        tokio::spawn(Arc::clone(&honest).upload(addr, 20_000_000, 413)),
    ];
    let most = watch(&form, *flags.lasts).await;
    println!("honest: {}", honest.summary());
    working.iter().for_each(tokio::task::JoinHandle::abort);
    attackers.stop();
    if let Some(outside) = outside {
        end(outside).await;
    }

    let over = Instant::now();
    let given_back = timeout(GIVEN_BACK, form.until_at_rest()).await.is_ok();
    println!(
        "all released: {given_back}, after {:.1?}, with the attackers still connected",
        over.elapsed()
    );
    let before = form.cpu();
    sleep(Duration::from_secs(5)).await;
    println!(
        "then: {} KiB, {} KiB in the kernel, {} descriptors, {} ms of CPU in 5 s",
        form.memory(),
        kernel::held(),
        form.descriptors(),
        (form.cpu() - before) * 10,
    );

    let connections = flags.at_once + most.served;
    let memory = memory + THE_HONEST + connections * A_CONNECTION;
    let buffers = connections.saturating_mul(kernel::receive_buffer());
    let holds = [
        row("lingering", most.lingering, flags.at_once + BEGINNING),
        row("form KiB", most.memory, memory),
        row(
            "kernel KiB, of both ends",
            most.kernel,
            buffers.min(kernel::for_all()),
        ),
        row("honest, lost", honest.lost.load(Ordering::Relaxed), 0),
        row("descriptors afterwards", form.descriptors(), descriptors),
        given_back,
    ];
    println!(
        "(at most {} descriptors, {} of them served)",
        most.descriptors, most.served
    );
    match holds.into_iter().all(|holds| holds) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Prints a row each second and returns the maxima.
async fn watch(form: &Form, lasts: Duration) -> Most {
    let begun = Instant::now();
    let mut most = Most::default();
    let mut seconds = interval(Duration::from_secs(1));
    println!("| s | lingering | form KiB | kernel KiB | descriptors |");
    println!("| --- | --- | --- | --- | --- |");
    while begun.elapsed() < lasts {
        seconds.tick().await;
        let lingering = form.gauges().await.map(|gauges| gauges.lingering);
        let descriptors = form.descriptors();
        let (memory, kernel) = (form.memory(), kernel::held());
        let (shown, seconds) = (
            lingering.map_or_else(|| "-".to_owned(), |count| count.to_string()),
            begun.elapsed().as_secs(),
        );
        println!("| {seconds} | {shown} | {memory} | {kernel} | {descriptors} |");
        most.lingering = most.lingering.max(lingering.unwrap_or(0));
        most.served = most
            .served
            .max(lingering.map_or(0, |lingering| descriptors.saturating_sub(lingering)));
        most.memory = most.memory.max(memory);
        most.kernel = most.kernel.max(kernel);
        most.descriptors = most.descriptors.max(descriptors);
    }
    most
}

/// Prints a figure beside its limit, and returns whether it holds.
fn row(what: &str, seen: u64, bound: u64) -> bool {
    let holds = seen <= bound;
    let verdict = if holds { "holds" } else { "DOES NOT HOLD" };
    println!("{what}: {seen} of {bound}: {verdict}");
    holds
}

fn start(words: &str, form: &Form) -> Child {
    let words = words.replace("URL", &format!("http://{}", form.addr));
    let mut words = words.split_whitespace();
    let mut program = Command::new(words.next().expect("a program"));
    program.args(words).kill_on_drop(true);
    program.stdin(Stdio::null()).stdout(Stdio::null());
    program.spawn().expect("it can be run")
}

async fn end(mut outside: Child) {
    // The process may have ended by itself.
    let _ = outside.start_kill();
    if let Ok(status) = outside.wait().await {
        println!("the attacker: {status}");
    }
}
