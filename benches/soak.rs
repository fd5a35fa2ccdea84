//! Runs the upload form for a long time. Uploads are accepted and refused, over HTTP/1 and HTTP/2,
//! on kept and on new connections. Some clients reset, leave, drip or stay silent.
//!
//! ```text
//! cargo build --release --all-features --example upload_form
//! cargo bench --bench soak -- --lasts 15m
//! ```
//!
//! It prints the form's memory, file descriptors and gauges every ten seconds. At the end it checks
//! that:
//! - the memory of the last third is that of the third before,
//! - all resources were released,
//! - every honest client got its response.
//!
//! It fails if one of these does not hold.

mod load {
    pub(crate) mod form;
    pub(crate) mod honest;
    pub(crate) mod mixed;
}

use std::{
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use clap::Parser;
use tokio::{
    task::JoinHandle,
    time::{interval, sleep, timeout},
};

use load::{
    form::{Form, raise_descriptors},
    honest::Honest,
    mixed,
};

const EVERY: Duration = Duration::from_secs(10);

/// How much the last third may exceed the one before, in percent and in KiB. An allocator is never
/// quite stable.
const MARGIN: (u64, u64) = (5, 1024);

/// The time limit for releasing all resources: `LingerConfig::timeout`, and some time to notice it.
const GIVEN_BACK: Duration = Duration::from_secs(35);

/// How long the idle form is watched for CPU use.
const IDLE: Duration = Duration::from_secs(5);

#[derive(Parser)]
struct Flags {
    #[arg(long, default_value = "15m")]
    lasts: humantime::Duration,
    /// The number of clients of each kind
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// Flags for the form, in one string
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    form: String,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    raise_descriptors();
    let form = Form::start(flags.form.split_whitespace());
    form.until_at_rest().await;
    // The connection of the last request is still closing.
    sleep(Duration::from_secs(1)).await;
    let descriptors = form.descriptors();
    println!("at rest: {} KiB, {descriptors} descriptors", form.memory());

    let honest = Arc::new(Honest::default());
    let clients: Vec<_> = (0..flags.clients)
        .flat_map(|_| mixed::start(form.addr, &honest))
        .collect();
    let memory = watch(&form, &honest, *flags.lasts).await;
    clients.iter().for_each(JoinHandle::abort);
    for client in clients {
        // The error is that of the abort.
        let _ = client.await;
    }
    println!("honest: {}", honest.summary());

    let at_rest = async {
        form.until_at_rest().await;
        // Uploads within the limit are still being stored, until the form notices that they were
        // cut.
        while form.descriptors() > descriptors {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let given_back = timeout(GIVEN_BACK, at_rest).await.is_ok();
    let before = form.cpu();
    sleep(IDLE).await;
    let lost = honest.lost.load(Ordering::Relaxed);
    println!(
        "all given back: {given_back}; {} descriptors, {} KiB, {} ms of CPU in {IDLE:?}; \
         lost: {lost}",
        form.descriptors(),
        form.memory(),
        (form.cpu() - before) * 10,
    );
    let is_flat = is_flat(&memory);
    match is_flat && given_back && lost == 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Prints and returns the form's memory, every ten seconds.
async fn watch(form: &Form, honest: &Honest, lasts: Duration) -> Vec<u64> {
    let begun = Instant::now();
    let mut ticks = interval(EVERY);
    let mut all = Vec::new();
    println!("| s | form KiB | descriptors | lingering | draining | accepted | refused | lost |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    // The first tick is immediate.
    ticks.tick().await;
    while begun.elapsed() < lasts {
        ticks.tick().await;
        let (seconds, memory) = (begun.elapsed().as_secs(), form.memory());
        all.push(memory);
        let (lingering, reading) = match form.gauges().await {
            Some(gauges) => (gauges.lingering.to_string(), gauges.reading.to_string()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let [accepted, refused, lost] = [&honest.accepted, &honest.refused, &honest.lost]
            .map(|count| count.load(Ordering::Relaxed));
        println!(
            "| {seconds} | {memory} | {} | {lingering} | {reading} | {accepted} | {refused} | \
             {lost} |",
            form.descriptors()
        );
    }
    all
}

fn is_flat(memory: &[u64]) -> bool {
    let third = memory.len() / 3;
    if third == 0 {
        println!("memory: too short a time to tell");
        return true;
    }
    let middle = median(&memory[third..2 * third]);
    let last = median(&memory[2 * third..]);
    let (hundredths, kib) = MARGIN;
    let is_flat = last <= middle + middle * hundredths / 100 + kib;
    println!(
        "memory: {middle} KiB in the second third (median), {last} KiB in the last; flat: {is_flat}"
    );
    is_flat
}

/// The median ignores memory that is taken for a moment.
fn median(figures: &[u64]) -> u64 {
    let mut figures = figures.to_vec();
    figures.sort_unstable();
    figures.get(figures.len() / 2).copied().unwrap_or(0)
}
